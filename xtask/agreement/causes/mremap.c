/* mremap: pages move, with their mapping or out of it; it grows and shrinks. */
#include "phase.h"
#include <sys/syscall.h>
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* The pages go, the mapping stays. By the bare call: older C libraries pass no address with this flag. */
static char *move_out(char *memory, size_t bytes) {
    return (char *)syscall(SYS_mremap, memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
}

int main(void) {
    for (int round = 0; round < 3; round++) {
        char *memory = fresh(8 * MIB);
        write_pages(memory, 8 * MIB, 1);
        phase();
        /* Something right behind it, so that it must move to grow. */
        (void)mmap(memory + 8 * MIB, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        char *grown = mremap(memory, 8 * MIB, 20 * MIB, MREMAP_MAYMOVE);
        CHECK(grown != MAP_FAILED);
        write_pages(grown + 8 * MIB, 6 * MIB, 2);
        phase();
        char *target = fresh(24 * MIB);
        write_pages(target, 24 * MIB, 5);
        phase();
        CHECK(mremap(grown, 16 * MIB, 16 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, target + 4 * MIB) == target + 4 * MIB);
        phase();
        char *left = move_out(target + 4 * MIB, 6 * MIB);
        CHECK(left != MAP_FAILED);
        write_pages(target + 4 * MIB, MIB, 1);
        phase();
        CHECK(munmap(left, 6 * MIB) == 0);
        CHECK(munmap(target, 24 * MIB) == 0);
        CHECK(munmap(grown + 16 * MIB, 4 * MIB) == 0);
        phase();
    }
    return 0;
}
