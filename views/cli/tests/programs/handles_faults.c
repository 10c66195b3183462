// Handles faults of its own memory by userfaultfd(2), after a while in which it has written to it.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 64

int main(void) {
    char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 2;
    for (int page = 0; page < PAGES; page++) ((volatile char *)memory)[page * PAGE] = 1;
    usleep(500000);
    // 1 is UFFD_USER_MODE_ONLY.
    int faults = syscall(SYS_userfaultfd, O_CLOEXEC | 1);
    if (faults < 0) return 77;
    struct uffdio_api api = {.api = UFFD_API};
    if (ioctl(faults, UFFDIO_API, &api)) return 3;
    struct uffdio_register range = {
        .range = {.start = (unsigned long)memory, .len = PAGES * PAGE},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl(faults, UFFDIO_REGISTER, &range)) return 4;
    madvise(memory, PAGES * PAGE, MADV_DONTNEED);
    char filled[PAGE] __attribute__((aligned(4096)));
    for (unsigned long byte = 0; byte < PAGE; byte++) filled[byte] = 7;
    struct uffdio_copy copy = {.dst = (unsigned long)memory, .src = (unsigned long)filled, .len = PAGE};
    if (ioctl(faults, UFFDIO_COPY, &copy)) return 5;
    usleep(300000);
    return memory[5] == 7 ? 0 : 6;
}
