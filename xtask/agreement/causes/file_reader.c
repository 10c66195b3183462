/* read: 64 MiB of a file go into fresh memory, and it is the kernel that touches it. */
#include "phase.h"

int main(int count, char **arguments) {
    CHECK(count == 2);
    int file = file_of(arguments[1], 64 * MIB, 0);
    for (int round = 0; round < 2; round++) {
        char *memory = fresh(64 * MIB);
        CHECK(lseek(file, 0, SEEK_SET) == 0);
        for (size_t at = 0; at < 64 * MIB; at += 8 * MIB) {
            CHECK(read(file, memory + at, 8 * MIB) == (ssize_t)(8 * MIB));
            phase();
        }
        CHECK(munmap(memory, 64 * MIB) == 0);
    }
    return 0;
}
