/* Shared anonymous memory and memfd are the page cache's, not anonymous, whoever writes. */
#include "phase.h"

int main(void) {
    char *steady = fresh(4 * MIB);
    for (int round = 0; round < 4; round++) {
        char *memory = mmap(NULL, 12 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED);
        write_pages(memory, 12 * MIB, 1);
        write_pages(steady, MIB * (size_t)(round + 1), 1);
        phase();
        int file = memfd_create("shared", 0);
        CHECK(file >= 0 && ftruncate(file, 8 * MIB) == 0);
        char *both = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        CHECK(both != MAP_FAILED);
        write_pages(both, 8 * MIB, 2);
        phase();
        CHECK(munmap(memory, 12 * MIB) == 0);
        CHECK(munmap(both, 8 * MIB) == 0 && close(file) == 0);
        phase();
        CHECK(madvise(steady, MIB * (size_t)(round + 1), MADV_DONTNEED) == 0);
        phase();
    }
    return 0;
}
