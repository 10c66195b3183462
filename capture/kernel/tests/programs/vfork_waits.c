/* A parent that cannot be stopped: it waits in vfork for a child that only sleeps. Prints "ready" from the child. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void) {
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (write(1, "ready\n", 6) != 6) _exit(1);
        for (;;) pause();
    }
    return 0;
}
