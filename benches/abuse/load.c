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

struct bad {
    int fd;
    int greeted;
    uint32_t stream; /* of HTTP/2: the last one opened */
};

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
    size_t (*frames)(struct bad *client, char *out); /* HTTP/2: what it sends in a turn, instead of a drip */
    int window;                                      /* and the window that it gives each stream; 0: the usual one */
};

/* ---- frames of HTTP/2 */

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, PING = 6, WINDOW_UPDATE = 8, CONTINUATION };
enum { END_STREAM = 1, END_HEADERS = 4 };
/* How often a client does in one turn what its kind does. */
#define AT_ONCE 100
#define NO_WINDOW (-1)
#define FRAMES_BYTES (1 << 16)

static size_t frame(char *out, int kind, int flags, uint32_t stream, const void *payload, int bytes) {
    const unsigned char head[] = {bytes >> 16, bytes >> 8, bytes, kind, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    memcpy(out, head, sizeof head);
    if (bytes) memcpy(out + sizeof head, payload, bytes);
    return sizeof head + bytes;
}

#define GET ((char)0x82)
#define POST ((char)0x83)

/* The head of a request to shop.test. Its method is one of the static table (RFC 7541 A). */
static size_t asked(struct bad *client, char *out, int flags, char method, const char *path) {
    char block[64] = {method, 0x86, 0x01, 9};
    int at = 4 + sprintf(block + 4, "shop.test");
    block[at++] = 0x04, block[at++] = strlen(path);
    at += sprintf(block + at, "%s", path);
    client->stream = client->stream ? client->stream + 2 : 1;
    return frame(out, HEADERS, flags, client->stream, block, at);
}
static size_t resets(struct bad *client, char *out) {
    static const char cancel[4] = {0, 0, 0, 8};
    size_t at = 0;
    for (int i = 0; i < AT_ONCE / 2; i++) {
        at += asked(client, out + at, END_STREAM | END_HEADERS, GET, "/");
        at += frame(out + at, RST_STREAM, 0, client->stream, cancel, sizeof cancel);
    }
    return at;
}

static size_t many(char *out, int kind, uint32_t stream, const void *payload, int bytes) {
    size_t at = 0;
    for (int i = 0; i < AT_ONCE; i++) at += frame(out + at, kind, 0, stream, payload, bytes);
    return at;
}

static size_t settings(struct bad *client, char *out) {
    (void)client;
    return many(out, SETTINGS, 0, NULL, 0);
}

static size_t pings(struct bad *client, char *out) {
    (void)client;
    return many(out, PING, 0, "12345678", 8);
}

/* A head that never ends, in small pieces. */
static size_t continuations(struct bad *client, char *out) {
    static const char field[] = "\0\3x-a\12abcdefghij";
    size_t at = client->stream ? 0 : asked(client, out, END_STREAM, GET, "/");
    return at + many(out + at, CONTINUATION, client->stream, field, sizeof field - 1);
}

static size_t nothing(struct bad *client, char *out) {
    size_t at = client->stream ? 0 : asked(client, out, END_HEADERS, POST, "/upload");
    return at + many(out + at, DATA, client->stream, NULL, 0);
}

/* Asks for so many large responses, none of which may come. */
static size_t holds(struct bad *client, char *out) {
    size_t at = 0;
    while (client->stream < 2 * AT_ONCE - 1) at += asked(client, out + at, END_STREAM | END_HEADERS, GET, "/middle");
    return at;
}

/* Some large responses that come one byte at a time. */
static size_t dribbles(struct bad *client, char *out) {
    static const char one[4] = {0, 0, 0, 1};
    size_t at = 0;
    while (client->stream < 19) at += asked(client, out + at, END_STREAM | END_HEADERS, GET, "/middle");
    for (uint32_t stream = 1; stream < 20; stream += 2) at += frame(out + at, WINDOW_UPDATE, 0, stream, one, sizeof one);
    return at;
}

/* What it begins with: its preface, its settings, and for the connection a window that does not matter. */
static size_t preface(struct kind *kind, char *out) {
    static const char wide[4] = {0x3f, 0, 0, 0};
    size_t at = sprintf(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    unsigned window = kind->window == NO_WINDOW ? 0 : kind->window;
    const char setting[6] = {0, 4, window >> 24, window >> 16, window >> 8, window};
    at += frame(out + at, SETTINGS, 0, 0, setting, kind->window ? sizeof setting : 0);
    return at + frame(out + at, WINDOW_UPDATE, 0, 0, wide, sizeof wide);
}

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
    {"h2-resets", .frames = resets, .reads = 1},
    {"h2-settings", .frames = settings, .reads = 1},
    {"h2-pings", .frames = pings, .reads = 1},
    {"h2-continuation", .frames = continuations, .reads = 1},
    {"h2-empty-data", .frames = nothing, .reads = 1},
    {"h2-holds", .frames = holds, .reads = 1, .window = NO_WINDOW},
    {"h2-dribbles", .frames = dribbles, .reads = 1, .window = 1},
};

static void enter(struct kind *kind, int epoll, struct bad *client) {
    *client = (struct bad){.fd = opened(kind->receive_buffer)};
    if (client->fd < 0) return;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void greet(struct kind *kind, struct bad *client) {
    char text[256];
    const char *greeting = kind->greeting;
    int bytes = kind->greeting_bytes ? kind->greeting_bytes : greeting ? (int)strlen(greeting) : 0;
    if (kind->frames) greeting = text, bytes = preface(kind, text);
    if (bytes) send(client->fd, greeting, bytes, MSG_NOSIGNAL);
    client->greeted = 1;
}

static void leave(struct kind *kind, int fd) {
    int on = 1;
    struct linger now_or_never = {1, 0};
    if (kind->after == RESETS) setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_or_never, sizeof now_or_never);
    /* Closed under repair nobody is told: a machine that lost its power. */
    if (kind->after == VANISHES && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0) exit(3);
    close(fd);
}

/* Half a frame would be another attack: who cannot say all of it leaves. */
static void send_frames(struct kind *kind, struct bad *client) {
    static char out[FRAMES_BYTES];
    if (!client->greeted) return;
    ssize_t bytes = kind->frames(client, out);
    if (bytes && send(client->fd, out, bytes, MSG_NOSIGNAL) != bytes) close(client->fd), client->fd = -1;
}

static void be_bad(struct kind *kind, int connections, int rate) {
    int epoll = epoll_create1(0);
    struct bad *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) all[i].fd = -1;
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
                struct bad *client = events[i].data.ptr;
                if (client->fd < 0) continue;
                if (events[i].events & EPOLLOUT && !client->greeted && !(events[i].events & EPOLLERR)) greet(kind, client);
                int is_gone = events[i].events & (EPOLLHUP | EPOLLERR) || (kind->reads && drained(client->fd) < 0);
                if (is_gone) close(client->fd), client->fd = -1;
            }
        }
        struct bad *client = &all[turn % connections];
        if (client->fd < 0) {
            enter(kind, epoll, client);
        } else if (kind->after != STAYS) {
            leave(kind, client->fd);
            enter(kind, epoll, client);
        } else if (kind->frames) {
            send_frames(kind, client);
        } else if (kind->drip) {
            send(client->fd, kind->drip, strlen(kind->drip), MSG_NOSIGNAL);
        } else if (!kind->reads) {
            char few[16];
            if (recv(client->fd, few, sizeof few, 0) == 0) close(client->fd), client->fd = -1;
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
