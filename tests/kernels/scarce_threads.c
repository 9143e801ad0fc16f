/* Preloaded by test_scarce_threads.py: a machine of 8 processors on which thread creation fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

static int allowed = -1, refused = 0; /* threads that may still start, negative for any number */

void allow_threads(int count) {
    allowed = count;
    refused = 0;
}

int refused_threads(void) { return refused; }

int get_nprocs(void) { return 8; }

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
    int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    if (allowed == 0) {
        ++refused;
        return EAGAIN;
    }
    if (allowed > 0) --allowed;
    *(void**)&create = dlsym(RTLD_NEXT, "pthread_create");
    return create(thread, attributes, start, argument);
}
