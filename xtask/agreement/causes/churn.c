/* Change all the time: a range comes or goes each half millisecond or so, and a wrong clock is seen. */
#include "phase.h"

#define RANGES 48

int main(void) {
    char *ranges[RANGES] = {0};
    uint64_t random = 1;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (random >> 33) % RANGES;
        if (ranges[at] && random >> 63) {
            CHECK(madvise(ranges[at], MIB / 2, MADV_DONTNEED) == 0);
        } else if (ranges[at]) {
            CHECK(munmap(ranges[at], MIB) == 0);
            ranges[at] = NULL;
        } else {
            ranges[at] = fresh(MIB);
            write_pages(ranges[at], MIB, 1);
        }
        nanosleep(&(struct timespec){0, 400000}, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 2500);
    return 0;
}
