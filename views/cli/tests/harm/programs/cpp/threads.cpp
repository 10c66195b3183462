// Threads of the standard library: many, detached ones, and values of their own that die with them.
#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>
#include "hazard.hpp"

static void churn(int seed) {
    std::map<int, std::string> held;
    for (int i = 0; i < 300; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned key = (unsigned)seed >> 24;
        if (key % 3) held[(int)key] = std::string(key + 20, 'x');
        else held.erase((int)key + 1);
    }
}

static int sixty_four() {
    for (int round = 0; round < 4; round++) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 64; i++) threads.emplace_back(churn, round * 64 + i);
        for (auto &thread : threads) thread.join();
    }
    std::vector<std::future<size_t>> results;
    for (size_t i = 0; i < 64; i++)
        results.push_back(std::async(std::launch::async, [i] { return std::string(i + 100, 'y').size(); }));
    size_t sum = 0;
    for (auto &result : results) sum += result.get();
    say("256 threads, %zu\n", sum);
    return 0;
}

static int detached_at_exit() {
    static std::atomic<int> running{0};
    for (int i = 0; i < 8; i++)
        std::thread([] {
            running++;
            for (;;) {
                churn(running);
                std::this_thread::sleep_for(std::chrono::microseconds(100));
            }
        }).detach();
    while (running < 8) std::this_thread::yield();
    nap(20);
    return 0;
}

struct Own {
    std::vector<std::unique_ptr<std::string>> values;
    ~Own() {
        values.clear();
        auto late = std::make_unique<std::string>(100, 'l');
    }
};

static thread_local Own own;

static int tls_destructors() {
    own.values.push_back(std::make_unique<std::string>(100, 'm'));
    for (int i = 0; i < 16; i++)
        std::thread([i] {
            for (int at = 0; at < 20; at++) own.values.push_back(std::make_unique<std::string>(i + 30, 'v'));
        }).join();
    return 0;
}

MAIN({"threads_churn", sixty_four}, {"detached_at_exit", detached_at_exit}, {"tls_destructors", tls_destructors})
