/* Has an allocator beside that of the C library, under a name by which one is known, and uses both. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *mi_malloc(size_t size)
{
    static char *next, *end;
    if (end - next < (long)size) {
        next = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = next + (1 << 24);
    }
    void *object = next;
    next += size;
    return object;
}

int main(void)
{
    for (int i = 0; i < 4000; i++)
        *(char *)mi_malloc(4096) = 1;
    // Its address is that of a stub in a program that is linked to a fixed address.
    void *(*volatile function)(size_t) = malloc;
    *(volatile char *)function(100) = 1;
    _exit(0);
}
