// Ways in which one process becomes two, or another one, with objects of C++ alive.
#include <atomic>
#include <memory>
#include <spawn.h>
#include <string>
#include <thread>
#include <vector>
#include "hazard.hpp"

extern char **environ;

static char self[] = "/proc/self/exe";
static char *leaf_arguments[] = {const_cast<char *>("leaf"), const_cast<char *>("leaf"), nullptr};

static std::vector<std::string> strings(size_t count, size_t length) {
    std::vector<std::string> made;
    for (size_t i = 0; i < count; i++) made.emplace_back(length + i % 50, 'x');
    return made;
}

static int leaf() {
    auto held = strings(11, 111);
    say("leaf\n");
    return 4;
}

static int child_allocates() {
    auto held = strings(100, 100);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        held.clear();
        auto own = strings(500, 60);
        _exit(3);
    }
    auto more = strings(500, 60);
    say("child %d\n", status_of(pid));
    return 0;
}

static int in_threads() {
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] {
            while (!stop) {
                strings(10, 60);
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
        });
    for (int round = 0; round < 20; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            begin_counting();
            auto own = strings(100, 60);
            _exit(round);
        }
        EXPECT(status_of(pid) == round);
    }
    stop = true;
    for (auto &thread : threads) thread.join();
    say("20 children\n");
    return 0;
}

static int vfork_exec() {
    auto held = strings(10, 100);
    for (int round = 0; round < 5; round++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(self, leaf_arguments, environ);
            _exit(97);
        }
        EXPECT(status_of(pid) == 4);
    }
    return 0;
}

static int spawn() {
    auto held = strings(10, 100);
    for (int round = 0; round < 5; round++) {
        pid_t pid;
        EXPECT(posix_spawn(&pid, self, nullptr, nullptr, leaf_arguments, environ) == 0);
        EXPECT(status_of(pid) == 4);
    }
    return 0;
}

static int exec_static() {
    auto held = strings(10, 100);
    execl(getenv("HARM_STATIC"), "still", nullptr);
    return 97;
}

static int daemonizes() {
    auto held = strings(20, 100);
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        EXPECT(setsid() > 0);
        if (fork() != 0) _exit(0);
        begin_counting();
        int word = dup2(ends[1], 1000);
        for (int fd = 0; fd < 1000; fd++) close(fd);
        auto own = strings(2000, 100);
        nap(100);
        EXPECT(write(word, "daemon", 6) == 6);
        std::thread([] { strings(2000, 100); }).join();
        _exit(0);
    }
    EXPECT(status_of(pid) == 0);
    close(ends[1]);
    char word[7] = "";
    EXPECT(read(ends[0], word, 6) == 6);
    say("%s\n", word);
    return 0;
}

MAIN({"leaf", leaf}, {"fork_without_exec", child_allocates}, {"fork_in_threads", in_threads}, {"vfork_exec", vfork_exec},
     {"posix_spawn", spawn}, {"exec_static", exec_static}, {"daemon", daemonizes})
