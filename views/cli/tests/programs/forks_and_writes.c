// Forks a child, writes 100 of its 1000 pages while that lives, and 300 others afterwards.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

int main(void) {
    volatile char *memory =
        mmap(NULL, 1000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 2;
    for (int page = 0; page < 1000; page++) memory[page * PAGE] = 1;
    usleep(500000);
    pid_t child = fork();
    if (child == 0) {
        usleep(900000);
        _exit(memory[0] == 1 ? 0 : 3);
    }
    usleep(400000);
    for (int page = 0; page < 100; page++) memory[page * 7 * PAGE] = 2;
    int status;
    waitpid(child, &status, 0);
    printf("%d\n", child);
    usleep(400000);
    for (int page = 0; page < 300; page++) memory[(page * 3 + 1) * PAGE] = 2;
    return WEXITSTATUS(status);
}
