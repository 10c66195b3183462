// A child of vfork(2) that stays for a while in its parent's memory, 32 MiB of it.
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    char *memory = malloc(32 << 20);
    memset(memory, 1, 32 << 20);
    struct timespec nap = {0, 900 * 1000000L};
    pid_t child = vfork();
    if (!child) {
        nanosleep(&nap, 0);
        _exit(0);
    }
    nap.tv_nsec /= 3;
    nanosleep(&nap, 0);
    int status;
    return waitpid(child, &status, 0) != child || status || !memory[5];
}
