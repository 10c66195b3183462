/* Populate: the kernel fills whole ranges, with no fault for any page. */
#include "phase.h"
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

int main(void) {
    for (int round = 0; round < 4; round++) {
        char *mapped = mmap(NULL, 12 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        CHECK(mapped != MAP_FAILED);
        phase();
        char *advised = fresh(12 * MIB);
        CHECK(madvise(advised, 5 * MIB, MADV_POPULATE_READ) == 0);
        phase();
        CHECK(madvise(advised + 2 * MIB, 7 * MIB, MADV_POPULATE_WRITE) == 0);
        phase();
        CHECK(munmap(mapped, 12 * MIB) == 0);
        CHECK(madvise(advised, 6 * MIB, MADV_DONTNEED) == 0);
        phase();
        CHECK(munmap(advised, 12 * MIB) == 0);
    }
    return 0;
}
