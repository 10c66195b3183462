/* O_DIRECT: a device writes into fresh memory, and no fault is seen at all. */
#include "phase.h"

int main(int count, char **arguments) {
    CHECK(count == 2);
    int file = file_of(arguments[1], 16 * MIB, O_DIRECT);
    for (int round = 0; round < 4; round++) {
        char *memory = fresh(24 * MIB);
        CHECK(pread(file, memory, 4 * MIB, 0) == (ssize_t)(4 * MIB));
        phase();
        CHECK(pread(file, memory + 8 * MIB, 6 * MIB, 2 * MIB) == (ssize_t)(6 * MIB));
        phase();
        write_pages(memory, 24 * MIB, 3);
        phase();
        CHECK(munmap(memory, 24 * MIB) == 0);
        phase();
    }
    return 0;
}
