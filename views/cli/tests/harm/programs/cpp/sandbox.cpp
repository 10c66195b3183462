// Programs that give rights away, with objects of C++ alive.
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <memory>
#include <stddef.h>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <vector>
#include "hazard.hpp"

static void work(int count) {
    for (int i = 0; i < count; i++) {
        std::vector<std::string> strings(3, std::string(40 + (size_t)i % 60, 'w'));
        try {
            if (i % 100 == 0) throw std::string(100, 'e');
        } catch (const std::string &) {
        }
    }
}

static void allow_only(const std::vector<int> &calls) {
    std::vector<sock_filter> filter;
    filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    for (int call : calls) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1));
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    sock_fprog program = {(unsigned short)filter.size(), filter.data()};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static int filtered() {
    work(100);
    allow_only({SYS_write, SYS_exit_group});
    work(5000);
    say("filtered\n");
    return 0;
}

static int threads_too() {
    work(100);
    allow_only({SYS_write, SYS_exit_group, SYS_futex, SYS_exit, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_madvise, SYS_clone,
                SYS_clone3, SYS_set_robust_list, SYS_rseq, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_brk});
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back(work, 500);
    for (auto &thread : threads) thread.join();
    say("8 threads\n");
    return 0;
}

static int other_root() {
    EXPECT(chroot(getenv("HARM_ROOT")) == 0 && chdir("/") == 0);
    work(500);
    pid_t pid = fork();
    if (pid == 0) {
        begin_counting();
        work(10);
        _exit(4);
    }
    say("child %d\n", status_of(pid));
    execl("/inside", "inside", nullptr);
    return 97;
}

static int close_all() {
    closefrom(3);
    work(5000);
    std::thread(work, 5000).join();
    EXPECT(open("/dev/null", O_RDONLY) == 3);
    return 0;
}

static int nobody() {
    EXPECT(setgroups(0, nullptr) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    work(5000);
    return 0;
}

MAIN({"seccomp_filter", filtered}, {"seccomp_threads", threads_too}, {"chroot", other_root}, {"closefrom", close_all},
     {"other_user", nobody})
