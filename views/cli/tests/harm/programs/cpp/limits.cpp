// Limits that a program sets for itself, met by streams and containers.
#include <csignal>
#include <fstream>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <vector>
#include "hazard.hpp"

static void limit(__rlimit_resource_t what, rlim_t most) {
    struct rlimit limits = {most, most};
    EXPECT(setrlimit(what, &limits) == 0);
}

static int few_descriptors() {
    limit(RLIMIT_NOFILE, 10);
    std::vector<std::unique_ptr<std::ifstream>> files;
    do files.push_back(std::make_unique<std::ifstream>("/dev/null"));
    while (files.back()->is_open());
    say("opened %zu\n", files.size() - 1);
    return 0;
}

static int fit() {
    std::vector<std::unique_ptr<std::vector<char>>> held;
    held.reserve(64);
    try {
        while (held.size() < 64) held.push_back(std::make_unique<std::vector<char>>(8 << 20, 'v'));
    } catch (const std::bad_alloc &) {
    }
    return (int)held.size();
}

static int little_address_space() {
    limit(RLIMIT_AS, 260 << 20);
    int made = fit();
    EXPECT(made == 31 || made == 30);
    struct rlimit now;
    EXPECT(getrlimit(RLIMIT_AS, &now) == 0);
    say("limit %lu\n", (unsigned long)now.rlim_cur);
    return 0;
}

static int little_data() {
    limit(RLIMIT_DATA, 68 << 20);
    say("%d times\n", fit());
    return 0;
}

static int small_files() {
    signal(SIGXFSZ, SIG_IGN);
    char path[] = "/tmp/harm-XXXXXX";
    int file = mkstemp(path);
    EXPECT(file >= 0);
    close(file);
    limit(RLIMIT_FSIZE, 1000);
    std::ofstream out(path);
    out << std::string(2000, 'x') << std::flush;
    EXPECT(!out);
    std::vector<std::string> strings(10000, std::string(50, 's'));
    say("%ld bytes\n", (long)std::ifstream(path, std::ios::ate).tellg());
    unlink(path);
    return 0;
}

static void join_group() {
    std::ofstream group(getenv("HARM_GROUP"));
    group << getpid() << std::flush;
    EXPECT(group);
}

static int within_group() {
    join_group();
    for (int round = 0; round < 3; round++) std::vector<char>(26 << 20, 'v');
    say("within\n");
    return 0;
}

static int beyond_group() {
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        join_group();
        std::vector<std::unique_ptr<std::vector<char>>> held;
        for (;;) held.push_back(std::make_unique<std::vector<char>>(1 << 20, 'v'));
    }
    say("ended %d\n", status_of(pid));
    return 0;
}

MAIN({"few_descriptors", few_descriptors}, {"little_address_space", little_address_space}, {"little_data", little_data},
     {"small_files", small_files}, {"cgroup_within", within_group}, {"cgroup_beyond", beyond_group})
