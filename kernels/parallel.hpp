// A loop over tasks shared by threads; the first exception of a worker is rethrown to the caller.
//
// Threads are a resource that runs out (a limit of a container or a cluster on processes, or on
// memory, of which each thread takes a stack). The calling thread works too, so the loop ends
// however few helpers can be started or have memory; a task may wait for those before it and no
// others, for tasks are taken in ascending order.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace upmap {

constexpr size_t kMaxThreads = 1024;  // of a loop, whatever the caller asks for

// Whether a thread has memory to work with. The first exception in a thread asks for thread-local
// memory, and where there is none the C library ends the process: so it is asked for here, while
// there is some.
inline bool has_memory_for_exceptions() {
    void* volatile memory = std::malloc(1 << 16);
    if (!memory) return false;
    std::free(memory);
    volatile int exceptions = std::uncaught_exceptions();
    static_cast<void>(exceptions);
    return true;
}

// Threads that run `work`, which must not throw and must outlive them; joined at the end of the
// scope.
class HelperThreads {
  public:
    // Starts at most `count`: fewer, down to none, where the system has no more.
    template <class Work>
    HelperThreads(size_t count, const Work& work) {
        try {
            threads_.reserve(count);
            for (size_t i = 0; i < count; ++i)
                threads_.emplace_back([&work] {
                    if (has_memory_for_exceptions()) work();
                });
        } catch (const std::system_error&) {  // no further thread
        } catch (const std::bad_alloc&) {     // no memory for a further thread
        }
    }
    HelperThreads(const HelperThreads&) = delete;
    HelperThreads& operator=(const HelperThreads&) = delete;
    ~HelperThreads() {
        for (std::thread& thread : threads_) thread.join();
    }

  private:
    std::vector<std::thread> threads_;
};

// Calls a body with each task in [0, tasks) once, taken in ascending order, on at most `threads`
// threads (0: as many as the machine has). Each thread calls `make_body` once for a body of its
// own, which may keep scratch memory between tasks.
template <class MakeBody>
void parallel_workers(size_t tasks, int threads, const MakeBody& make_body) {
    std::atomic<size_t> next{0};
    std::exception_ptr error;
    std::mutex error_lock;
    auto work = [&] {
        try {
            auto body = make_body();
            for (size_t task; (task = next.fetch_add(1)) < tasks;) body(task);
        } catch (...) {
            std::lock_guard<std::mutex> guard(error_lock);
            if (!error) error = std::current_exception();
            next = tasks;
        }
    };
    const size_t limit = threads > 0 ? static_cast<size_t>(threads)
                                     : std::max<size_t>(1, std::thread::hardware_concurrency());
    {
        const size_t workers = std::min({limit, tasks, kMaxThreads});
        HelperThreads helpers(std::max<size_t>(workers, 1) - 1, work);
        work();
    }
    if (error) std::rethrow_exception(error);
}

// The same where all threads share one body, which must be safe to call from many.
template <class Body>
void parallel_for(size_t tasks, int threads, const Body& body) {
    parallel_workers(tasks, threads, [&] { return [&](size_t task) { body(task); }; });
}

}  // namespace upmap
