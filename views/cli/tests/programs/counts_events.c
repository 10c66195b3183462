// Allocates and frees without end, and keeps the number of finished events in a file mapping that outlives it.
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct counts {
    _Atomic unsigned long allocated, freed;
    char pad[48];
};
static struct counts *counts;

static void *work(void *argument) {
    struct counts *own = &counts[(long)argument];
    void *ring[64] = {0};
    for (unsigned long i = 0;; i++) {
        void **slot = &ring[i * 7 % 64];
        if (*slot) {
            free(*slot);
            atomic_fetch_add(&own->freed, 1);
        }
        *slot = malloc(i % 777 + 1);
        atomic_fetch_add(&own->allocated, 1);
    }
}

int main(int count, char **arguments) {
    int file = count > 1 ? open(arguments[1], O_RDWR | O_CREAT, 0600) : -1;
    if (file < 0 || ftruncate(file, 4096) != 0) return 1;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pthread_t thread;
    pthread_create(&thread, NULL, work, (void *)1);
    work((void *)0);
}
