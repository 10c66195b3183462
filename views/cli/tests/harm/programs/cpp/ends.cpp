// Objects of static life, and ways in which a process ends.
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>
#include "hazard.hpp"

struct Late {
    std::vector<std::string> strings;
    Late() : strings(20, std::string(100, 'l')) {}
    ~Late() {
        strings.clear();
        auto more = std::make_unique<std::string>(100, 'm');
    }
};

// Made before main, by a constructor of this file.
static Late early;
static std::map<int, std::string> table = {{1, std::string(100, 'a')}, {2, std::string(100, 'b')}};

static int constructors_and_atexit() {
    static Late at_first_use;
    std::atexit([] {
        std::string text(100, 't');
        say("at exit\n");
    });
    return 0;
}

static int at_once() {
    auto held = std::make_unique<Late>();
    std::_Exit(7);
}

static int aborts() {
    auto held = std::make_unique<Late>();
    std::abort();
}

static int quick() {
    auto held = std::make_unique<Late>();
    std::at_quick_exit([] {
        std::string text(100, 't');
        say("at quick exit\n");
    });
    std::quick_exit(9);
}

static int __attribute__((noinline)) deeper(volatile char *above) {
    volatile char here[1000];
    here[0] = above ? above[0] : 1;
    std::string text(100, 'd');
    return here[0] ? deeper(here) + text[0] + here[0] : 0;
}

static int stack_overflow() {
    struct rlimit stack = {1 << 20, 1 << 20};
    EXPECT(setrlimit(RLIMIT_STACK, &stack) == 0);
    return deeper(nullptr);
}

static int thread_stack_overflow() {
    std::thread([] { deeper(nullptr); }).join();
    return 0;
}

static int exit_from_thread() {
    auto held = std::make_unique<Late>();
    std::thread([] { std::exit(12); }).join();
    return 0;
}

MAIN({"constructors_and_atexit", constructors_and_atexit}, {"exit_at_once", at_once}, {"abort", aborts}, {"quick_exit", quick},
     {"stack_overflow", stack_overflow}, {"thread_stack_overflow", thread_stack_overflow},
     {"exit_from_thread", exit_from_thread})
