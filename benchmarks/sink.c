/* A receiver of POSTs that costs next to nothing, so that a benchmark measures the sender.

   sink DELAY...   one listening port for each delay in milliseconds; -1 takes requests and never answers.

   Prints the ports on one line, answers every request with 200 and "ok", ends when stdin does. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 8, CONNECTIONS = 65536, BUFFER = 65536, EVENTS = 256 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

struct connection { char *data; size_t filled; int port; uint32_t age; };
struct owed { int fd; uint32_t age; int64_t due; struct owed *next; };
struct port { int listener; int delay; struct owed *first, *last; };

static struct connection connections[CONNECTIONS];
static struct port ports[PORTS];
static int port_count, queue;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event) != 0) { perror("epoll_ctl"); exit(1); }
}

static void open_port(int delay) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (void *)&address, size) != 0 || listen(fd, 4096) != 0) { perror("listen"); exit(1); }
    getsockname(fd, (void *)&address, &size);
    ports[port_count++] = (struct port){.listener = fd, .delay = delay};
    watch(fd);
    printf("%d ", ntohs(address.sin_port));
}

static void hang_up(int fd) {
    struct connection *c = &connections[fd];
    free(c->data);
    *c = (struct connection){.age = c->age + 1}; /* what is still owed to it is recognised by its age */
    close(fd);
}

static void welcome(int port) {
    int fd, on = 1;
    while ((fd = accept4(ports[port].listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd].data = malloc(BUFFER + 1);
        connections[fd].filled = 0;
        connections[fd].port = port;
        watch(fd);
    }
}

static void answer(int fd) {
    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0 && errno != EAGAIN) hang_up(fd);
}

static void owe(int fd, struct port *port) {
    struct owed *owed = malloc(sizeof *owed);
    *owed = (struct owed){.fd = fd, .age = connections[fd].age, .due = now_us() + port->delay * 1000LL};
    if (port->last) port->last->next = owed; else port->first = owed;
    port->last = owed;
}

static void pay(struct port *port, int64_t now) {
    while (port->first && port->first->due <= now) {
        struct owed *owed = port->first;
        port->first = owed->next;
        if (!port->first) port->last = NULL;
        if (connections[owed->fd].data && connections[owed->fd].age == owed->age) answer(owed->fd);
        free(owed);
    }
}

/* The bytes of the first whole request in the buffer, 0 when it is not whole yet. */
static size_t request(struct connection *c) {
    c->data[c->filled] = 0;
    char *end = strstr(c->data, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(c->data, "\r\nContent-Length:");
    size_t whole = end + 4 - c->data + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
    return whole <= c->filled ? whole : 0;
}

static void hear(int fd) {
    struct connection *c = &connections[fd];
    ssize_t got = read(fd, c->data + c->filled, BUFFER - c->filled);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { hang_up(fd); return; }
    c->filled += got;
    size_t whole;
    while (c->data && (whole = request(c))) {
        memmove(c->data, c->data + whole, c->filled -= whole);
        struct port *port = &ports[c->port];
        if (port->delay == 0) answer(fd);
        else if (port->delay > 0) owe(fd, port);
    }
}

static int listener_of(int fd) {
    for (int i = 0; i < port_count; i++) if (ports[i].listener == fd) return i;
    return -1;
}

static int patience(void) {
    int64_t due = INT64_MAX;
    for (int i = 0; i < port_count; i++)
        if (ports[i].first && ports[i].first->due < due) due = ports[i].first->due;
    if (due == INT64_MAX) return -1;
    int64_t left = due - now_us();
    return left > 0 ? (int)((left + 999) / 1000) : 0;
}

int main(int count, char **delays) {
    queue = epoll_create1(0);
    for (int i = 1; i < count && i <= PORTS; i++) open_port(atoi(delays[i]));
    printf("\n");
    fflush(stdout);
    watch(0);
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(queue, events, EVENTS, patience());
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd, port = listener_of(fd);
            if (fd == 0) return 0;
            if (port >= 0) welcome(port);
            else if (connections[fd].data) hear(fd);
        }
        int64_t now = now_us();
        for (int i = 0; i < port_count; i++) pay(&ports[i], now);
    }
}
