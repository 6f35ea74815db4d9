/* The clients of benches/abuse/run: good ones that measure, and bad ones of every kind at a fixed rate.
 *
 *   load good PORT CONNECTIONS RATE SECONDS   keep-alive GETs on a schedule; prints answered, failed, p50, p99, most (us)
 *   load KIND PORT CONNECTIONS RATE [FILE]    until it is killed; FILE has the client hello of those that say one
 *
 * In C, because its own work on the one core that is left must not be what is measured. A latency counts from when the
 * request was due, so that a stall is counted for everybody who would have asked meanwhile. Only ever for 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef TCP_REPAIR
#define TCP_REPAIR 19
#endif
#define SECOND 1000000000LL
#define HOST "Host: shop.test\r\n"

static struct sockaddr_in door = {.sin_family = AF_INET};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static int opened(int receive_buffer) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (receive_buffer) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (connect(fd, (struct sockaddr *)&door, sizeof door) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Reads what is there, to be forgotten. -1: the other side has closed. */
static int drained(int fd) {
    static char sink[1 << 16];
    for (;;) {
        ssize_t n = recv(fd, sink, sizeof sink, 0);
        if (n == 0) return -1;
        if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
}

/* ---- good clients */

struct good {
    int fd;
    int64_t *due; /* of those asked or waiting to be asked, oldest first */
    int first, count;
    int asked; /* one at a time is under way */
    int left;  /* bytes of the response */
};

static int by_size(const void *a, const void *b) {
    int64_t x = *(int64_t *)a, y = *(int64_t *)b;
    return (x > y) - (x < y);
}

#define WAITING 4096

static void ask(struct good *c) {
    static const char request[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    if (c->count && !c->asked && send(c->fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0) c->asked = 1;
}

static void be_good(int connections, int rate, int seconds) {
    int epoll = epoll_create1(0);
    struct good *all = calloc(connections, sizeof *all);
    int64_t total = (int64_t)rate * seconds, sent = 0, answered = 0, failed = 0;
    int64_t *took = calloc(total + 1, sizeof *took);
    for (int i = 0; i < connections; i++) {
        all[i].due = calloc(WAITING, sizeof(int64_t));
        all[i].fd = opened(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &all[i]});
    }
    usleep(300000);
    int64_t start = now(), end = start + (int64_t)seconds * SECOND, grace = end + 10 * SECOND;
    while (answered + failed < total && now() < grace) {
        int64_t t = now();
        while (sent < total && start + sent * SECOND / rate <= t) {
            struct good *c = &all[sent % connections];
            if (c->count < WAITING) c->due[(c->first + c->count++) % WAITING] = start + sent * SECOND / rate;
            else failed++;
            ask(c);
            sent++;
        }
        int64_t wait = sent < total ? start + sent * SECOND / rate - now() : SECOND / 100;
        if (wait < 0) wait = 0;
        struct timespec timeout = {0, wait < SECOND ? wait : SECOND - 1};
        ppoll(&(struct pollfd){.fd = epoll, .events = POLLIN}, 1, &timeout, NULL);
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, 0);
        for (int i = 0; i < n; i++) {
            struct good *c = events[i].data.ptr;
            char reply[4096];
            ssize_t got = recv(c->fd, reply, sizeof reply - 1, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got > 0) {
                reply[got] = 0;
                /* The response is small and arrives whole; anything but the greeting is a failure. */
                int fine = strncmp(reply, "HTTP/1.1 200", 12) == 0 && strstr(reply, "hello");
                if (fine) took[answered++] = now() - c->due[c->first];
                else failed++;
            }
            if (c->asked && got != 0) {
                c->first = (c->first + 1) % WAITING, c->count--;
            }
            c->asked = 0;
            if (got <= 0) {
                /* Closed on a good client. */
                if (c->count) failed++, c->first = (c->first + 1) % WAITING, c->count--;
                close(c->fd);
                c->fd = opened(0);
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
            }
            ask(c);
        }
    }
    failed = total - answered;
    qsort(took, answered, sizeof *took, by_size);
    if (!answered) took[0] = 0;
    printf("%ld %ld %ld %ld %ld\n", (long)answered, (long)failed, (long)(took[answered / 2] / 1000),
           (long)(took[answered * 99 / 100] / 1000), (long)(took[answered ? answered - 1 : 0] / 1000));
}

/* ---- bad clients */

struct kind {
    const char *name;
    const char *greeting; /* sent once connected */
    const char *drip;     /* sent again and again, at the rate */
    int drip_bytes;       /* how much of it; 0: all */
    int receive_buffer;
    enum { STAYS, CLOSES, RESETS, VANISHES } after; /* what it does when its turn comes */
    int reads;                                       /* 0: never */
    int burst;                                       /* so many turns at once, then none until their time is over */
    int greeting_bytes;                              /* 0: up to its NUL */
};

static char head_of_too_many_fields[1 << 16], many_requests[1 << 14], many_chunks[1 << 12], hello[1 << 12];

static struct kind kinds[] = {
    {"slow-heads", "GET / HTTP/1.1\r\n" HOST, "X-A: b\r\n", 0, 0, STAYS, 1},
    {"slow-bodies", "POST /upload HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n", "x", 0, 0, STAYS, 1},
    {"slow-readers", "GET /big HTTP/1.1\r\n" HOST "\r\n", NULL, 0, 2048, STAYS, 0},
    {"header-flood", NULL, head_of_too_many_fields, 0, 0, STAYS, 1},
    {"pipelining", NULL, many_requests, 0, 0, STAYS, 1},
    {"tiny-chunks", "POST /upload HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", many_chunks, 0, 0, STAYS, 1},
    {"open-close", NULL, NULL, 0, 0, CLOSES, 0},
    {"silent", NULL, NULL, 0, 0, STAYS, 1},
    {"vanish", "GET /big HTTP/1.1\r\n" HOST "\r\n", NULL, 0, 0, RESETS, 0},
    {"half-open", "GET / HTTP/1.1\r\n" HOST, NULL, 0, 0, VANISHES, 0},
    /* The server has signed when they leave, and they have computed nothing. */
    {"hello-flood", hello, NULL, 0, 0, CLOSES, 1},
    {"hello-burst", hello, NULL, 0, 0, CLOSES, 1, 1000},
};

static int greeted(struct kind *kind, int epoll, int index) {
    int fd = opened(kind->receive_buffer);
    if (fd < 0) return -1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = index});
    return fd;
}

static void leave(struct kind *kind, int fd) {
    int on = 1;
    struct linger now_or_never = {1, 0};
    if (kind->after == RESETS) setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_or_never, sizeof now_or_never);
    /* Closed under repair nobody is told: a machine that lost its power. */
    if (kind->after == VANISHES && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0) exit(3);
    close(fd);
}

static void be_bad(struct kind *kind, int connections, int rate) {
    int epoll = epoll_create1(0);
    int *fds = malloc(connections * sizeof *fds);
    char *greet = calloc(connections, 1);
    memset(fds, -1, connections * sizeof *fds);
    int64_t start = now();
    int burst = kind->burst ? kind->burst : 1;
    /* One turn after the other, at the rate: who is not connected connects, who is does what its kind does. */
    for (int64_t turn = 0;; turn++) {
        int64_t wait;
        while ((wait = start + turn / burst * burst * SECOND / rate - now()) > 0) {
            struct timespec timeout = {wait / SECOND, wait % SECOND};
            ppoll(&(struct pollfd){.fd = epoll, .events = POLLIN}, 1, &timeout, NULL);
            struct epoll_event events[256];
            int n = epoll_wait(epoll, events, 256, 0);
            for (int i = 0; i < n; i++) {
                int index = events[i].data.u32, fd = fds[index];
                if (fd < 0) continue;
                if (events[i].events & EPOLLOUT && !greet[index] && !(events[i].events & EPOLLERR)) {
                    greet[index] = 1;
                    int bytes = kind->greeting_bytes ? kind->greeting_bytes : kind->greeting ? strlen(kind->greeting) : 0;
                    if (bytes) send(fd, kind->greeting, bytes, MSG_NOSIGNAL);
                }
                int is_gone = events[i].events & (EPOLLHUP | EPOLLERR) || (kind->reads && drained(fd) < 0);
                if (is_gone) close(fd), fds[index] = -1;
            }
        }
        int index = turn % connections;
        if (fds[index] < 0) {
            greet[index] = 0;
            fds[index] = greeted(kind, epoll, index);
        } else if (kind->after != STAYS) {
            leave(kind, fds[index]);
            greet[index] = 0;
            fds[index] = greeted(kind, epoll, index);
        } else if (kind->drip) {
            send(fds[index], kind->drip, strlen(kind->drip), MSG_NOSIGNAL);
        } else if (!kind->reads) {
            char few[16];
            if (recv(fds[index], few, sizeof few, 0) == 0) close(fds[index]), fds[index] = -1;
        }
    }
}

static void write_texts(void) {
    strcpy(head_of_too_many_fields, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 400; i++) strcat(head_of_too_many_fields, "X-Field-Of-A-Flood: 0123456789abcdefghijklmnopqrstuvwxyz\r\n");
    strcat(head_of_too_many_fields, "\r\n");
    for (int i = 0; i < 100; i++) strcat(many_requests, "GET / HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < 200; i++) strcat(many_chunks, "1\r\nx\r\n");
}

int main(int count, char **words) {
    if (count < 5) return 2;
    door.sin_port = htons(atoi(words[2]));
    door.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    signal(SIGPIPE, SIG_IGN);
    write_texts();
    if (!strcmp(words[1], "good") && count > 5) return be_good(atoi(words[3]), atoi(words[4]), atoi(words[5])), 0;
    FILE *file = count > 5 ? fopen(words[5], "r") : NULL;
    int hello_bytes = file ? fread(hello, 1, sizeof hello, file) : 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(words[1], kinds[i].name)) continue;
        if (kinds[i].greeting == hello && !(kinds[i].greeting_bytes = hello_bytes)) return 2;
        be_bad(&kinds[i], atoi(words[3]), atoi(words[4]));
    }
    return 2;
}
