// A loop over tasks shared by threads; the first exception of a worker is rethrown to the caller.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace upmap {

// Calls a body with each task in [0, tasks) once, in any order, on at most `threads` threads (0: as
// many as the machine has). Each thread makes a body of its own, which may keep things between tasks.
template <class MakeBody>
void parallel_workers(int64_t tasks, int threads, const MakeBody& make_body) {
    std::atomic<int64_t> next{0};
    std::exception_ptr error;
    std::mutex error_lock;
    auto work = [&] {
        try {
            auto body = make_body();
            for (int64_t task; (task = next.fetch_add(1)) < tasks;) body(task);
        } catch (...) {
            std::lock_guard<std::mutex> guard(error_lock);
            if (!error) error = std::current_exception();
            next = tasks;
        }
    };
    if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    int64_t helpers = std::min<int64_t>(threads, tasks) - 1;
    std::vector<std::thread> pool;
    for (int64_t i = 0; i < helpers; ++i) pool.emplace_back(work);
    work();
    for (auto& thread : pool) thread.join();
    if (error) std::rethrow_exception(error);
}

// The same where all threads share one body.
template <class Body>
void parallel_for(int64_t tasks, int threads, const Body& body) {
    parallel_workers(tasks, threads, [&] { return [&](int64_t task) { body(task); }; });
}

}  // namespace upmap
