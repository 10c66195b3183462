// Aligned, sized and failing requests, from several threads: for allocators that are linked or preloaded.
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#include "hazard.hpp"

void *operator new(size_t size, std::align_val_t align) {
    void *made = nullptr;
    if (posix_memalign(&made, (size_t)align, size) != 0) throw std::bad_alloc();
    count_made();
    return made;
}
void operator delete(void *made, std::align_val_t) noexcept { drop(made); }
void operator delete(void *made, size_t, std::align_val_t) noexcept { drop(made); }

struct alignas(64) Wide {
    char bytes[192];
};

static void uses_all() {
    std::unordered_map<int, std::string> table;
    for (int i = 0; i < 500; i++) {
        auto wide = std::make_unique<Wide>();
        EXPECT((size_t)wide.get() % 64 == 0);
        table[i % 100] = std::string((size_t)i, 'x');
        std::vector<char> grows;
        for (int at = 0; at < 50; at++) grows.insert(grows.end(), 40, 'g');
    }
    volatile size_t too_much = (size_t)-1 >> 1;
    EXPECT(new (std::nothrow) char[too_much] == nullptr);
}

static int whole_family() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) threads.emplace_back(uses_all);
    for (auto &thread : threads) thread.join();
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        uses_all();
        _exit(3);
    }
    say("child %d\n", status_of(pid));
    return 0;
}

MAIN({"whole_family", whole_family})
