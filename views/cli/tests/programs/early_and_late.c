// Allocates before main and after it.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *early;

__attribute__((constructor)) static void before(void) { early = memset(malloc(12345), 1, 12345); }

__attribute__((destructor)) static void after(void) {
    memset(malloc(23456), 1, 23456);
    free(early);
}

static void at_exit(void) {
    memset(malloc(34567), 1, 34567);
    if (write(1, "late\n", 5) != 5) _exit(1);
}

int main(void) { return atexit(at_exit); }
