/* Private file copy: a page of a private file mapping becomes anonymous when it is written. */
#include "phase.h"

int main(int count, char **arguments) {
    CHECK(count == 2);
    int file = file_of(arguments[1], 16 * MIB, 0);
    for (int round = 0; round < 4; round++) {
        char *memory = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
        CHECK(memory != MAP_FAILED);
        read_pages(memory, 8 * MIB, 1);
        phase();
        write_pages(memory, 16 * MIB, 3);
        phase();
        write_pages(memory, 16 * MIB, 1);
        phase();
        CHECK(madvise(memory, 8 * MIB, MADV_DONTNEED) == 0);
        phase();
        CHECK(munmap(memory, 16 * MIB) == 0);
    }
    return 0;
}
