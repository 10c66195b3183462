// Touches 8 MiB and lives for a while, so that it is seen though nothing can be preloaded into it.
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    memset(malloc(8 << 20), 1, 8 << 20);
    struct timespec nap = {0, 500 * 1000000L};
    nanosleep(&nap, 0);
    return write(1, "static\n", 7) != 7;
}
