// Exceptions: through functions that allocate, out of them, between threads, and what is thrown when there is no memory.
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>
#include "hazard.hpp"

struct Held {
    std::unique_ptr<char[]> bytes{new char[100]};
    ~Held() { delete new int(1); }
};

static int deeper(int left) {
    Held held;
    if (left == 0) throw std::runtime_error("from below, with a text that is long enough to be in the heap");
    return deeper(left - 1) + held.bytes[0];
}

static int through_hooks() {
    int caught = 0;
    for (int round = 0; round < 300; round++) {
        try {
            deeper(round % 30);
        } catch (const std::exception &error) {
            caught += error.what()[0] == 'f';
        }
    }
    // From one thread to another, and twice.
    std::exception_ptr kept;
    std::thread([&] {
        try {
            try {
                deeper(5);
            } catch (...) {
                std::throw_with_nested(std::string(200, 'n'));
            }
        } catch (...) {
            kept = std::current_exception();
        }
    }).join();
    try {
        std::rethrow_exception(kept);
    } catch (const std::string &text) {
        caught += text.size() == 200;
    }
    say("caught %d\n", caught);
    return 0;
}

static int handled;

static void no_memory() {
    handled++;
    throw std::length_error("none left, says the handler");
}

static int when_there_is_none() {
    struct rlimit limit = {300 << 20, 300 << 20};
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    int caught = 0;
    for (int round = 0; round < 20; round++) {
        std::vector<std::unique_ptr<char[]>> held;
        try {
            for (;;) held.emplace_back(new char[16 << 20]);
        } catch (const std::bad_alloc &) {
            caught++;
        }
        EXPECT(held.size() >= 15 && held.size() <= 18);
    }
    std::set_new_handler(no_memory);
    try {
        delete[] new char[400u << 20];
    } catch (const std::length_error &) {
        caught++;
    }
    EXPECT(handled == 1 && new (std::nothrow) char[400u << 20] == nullptr);
    say("caught %d\n", caught);
    return 0;
}

static int not_caught() {
    Held held;
    throw std::runtime_error("nobody catches this");
}

static int not_caught_in_thread() {
    std::thread([] { deeper(3); }).join();
    return 0;
}

MAIN({"exceptions", through_hooks}, {"no_memory", when_there_is_none}, {"not_caught", not_caught},
     {"not_caught_in_thread", not_caught_in_thread})
