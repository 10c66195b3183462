// Runs a program with some system calls denied by a seccomp filter, as containers do:
// denies EPERM|ENOSYS NAME[,NAME...] PROGRAM [ARGUMENT...]
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    const char *name;
    int number;
} KNOWN[] = {
    {"perf_event_open", SYS_perf_event_open}, {"userfaultfd", SYS_userfaultfd},
    {"ptrace", SYS_ptrace},                   {"process_vm_readv", SYS_process_vm_readv},
    {"pidfd_getfd", 438},                     {"seccomp", SYS_seccomp},
    {"bpf", SYS_bpf},
};

int main(int count, char **arguments) {
    if (count < 4) return 99;
    int denied = strcmp(arguments[1], "ENOSYS") == 0 ? ENOSYS : EPERM;
    struct sock_filter program[32];
    unsigned short length = 0;
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (char *name = strtok(arguments[2], ","); name != NULL; name = strtok(NULL, ",")) {
        int number = -1;
        for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
            if (strcmp(KNOWN[i].name, name) == 0) number = KNOWN[i].number;
        }
        if (number < 0) return 98;
        program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | denied);
    }
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {length, program};
    // Root of the whole machine needs no promise; others, and root of a container, give it.
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)) {
        perror("seccomp");
        return 97;
    }
    execv(arguments[3], arguments + 3);
    perror(arguments[3]);
    return 96;
}
