// Says as whom it runs and whether anything is to be preloaded into it, keeps 4 MiB, and lives for a while.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    memset(malloc(4 << 20), 1, 4 << 20);
    printf("user %d as %d, group %d as %d, %s\n", getuid(), geteuid(), getgid(), getegid(),
           access("/etc/shadow", R_OK) == 0 ? "may" : "may not");
    fflush(stdout);
    struct timespec nap = {0, 400 * 1000000L};
    nanosleep(&nap, 0);
    return 5;
}
