/* recv and recvmsg: what comes over a socket goes into fresh memory. */
#include "phase.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define ROUNDS 4
#define BYTES (8 * MIB)

static void *send_all(void *socket) {
    static char block[64 * 1024];
    for (size_t sent = 0; sent < ROUNDS * 2 * BYTES;) {
        ssize_t part = send(*(int *)socket, block, sizeof block, 0);
        CHECK(part > 0);
        sent += (size_t)part;
    }
    return NULL;
}

static void receive(int socket, char *memory, int by_message) {
    for (size_t done = 0; done < BYTES;) {
        struct iovec parts[2] = {{memory + done, (BYTES - done) / 2}, {memory + done + (BYTES - done) / 2, BYTES - done - (BYTES - done) / 2}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t part = by_message ? recvmsg(socket, &message, 0) : recv(socket, memory + done, BYTES - done, 0);
        CHECK(part > 0);
        done += (size_t)part;
    }
}

int main(void) {
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pthread_t sender;
    CHECK(pthread_create(&sender, NULL, send_all, &sockets[1]) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        char *memory = fresh(2 * BYTES);
        receive(sockets[0], memory, 0);
        phase();
        receive(sockets[0], memory + BYTES, 1);
        phase();
        CHECK(munmap(memory, BYTES) == 0);
        phase();
        CHECK(munmap(memory + BYTES, BYTES) == 0);
        phase();
    }
    CHECK(pthread_join(sender, NULL) == 0);
    return 0;
}
