/* An SMTP server that accepts everything and keeps nothing: smtp_sink PORT.
 * One thread, one epoll loop. Prints "ready", and how many mails it took when its standard input closes. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, EVENTS = 64 };

struct session {
    int fd, in_data;
    size_t held;
    char buffer[BUFFER];
};

static long taken;

static void say(struct session *s, const char *words) {
    if (write(s->fd, words, strlen(words)) < 0 && errno != EPIPE && errno != ECONNRESET) perror("write");
}

/* Answers one complete command, or swallows mail text up to its end. Returns the bytes consumed: 0 = more is needed,
 * -1 = the client says goodbye. */
static long step(struct session *s) {
    if (s->in_data) {
        char *end = memmem(s->buffer, s->held, "\r\n.\r\n", 5);
        if (end == NULL) return s->held > 4 ? (long)s->held - 4 : 0;
        s->in_data = 0;
        taken++;
        say(s, "250 2.0.0 taken\r\n");
        return end + 5 - s->buffer;
    }
    char *end = memmem(s->buffer, s->held, "\r\n", 2);
    if (end == NULL) return 0;
    if (strncasecmp(s->buffer, "DATA", 4) == 0) {
        s->in_data = 1;
        say(s, "354 go on\r\n");
    } else if (strncasecmp(s->buffer, "QUIT", 4) == 0) {
        say(s, "221 bye\r\n");
        return -1;
    } else if (strncasecmp(s->buffer, "EHLO", 4) == 0) {
        say(s, "250-sink\r\n250 PIPELINING\r\n");
    } else {
        say(s, "250 ok\r\n");
    }
    return end + 2 - s->buffer;
}

static void serve(struct session *s) {
    long got = read(s->fd, s->buffer + s->held, BUFFER - s->held), used = got > 0 ? 1 : -1;
    if (got > 0) s->held += (size_t)got;
    while (used > 0 && s->held > 0 && (used = step(s)) > 0) {
        s->held -= (size_t)used;
        memmove(s->buffer, s->buffer + used, s->held);
    }
    if (used < 0 || s->held == BUFFER) {
        close(s->fd);
        free(s);
    }
}

static void greet(int poll, int listener) {
    struct session *s = calloc(1, sizeof *s);
    int now = 1;
    if (s == NULL || (s->fd = accept(listener, NULL, NULL)) < 0) {
        free(s);
        return;
    }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &now, sizeof now);
    struct epoll_event on = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(poll, EPOLL_CTL_ADD, s->fd, &on);
    say(s, "220 sink\r\n");
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event on_listener = {.events = EPOLLIN}, on_stdin = {.events = EPOLLIN}, events[EVENTS];
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), now = 1;
    address.sin_port = htons((unsigned short)atoi(count > 1 ? arguments[1] : "0"));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &now, sizeof now);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 512) < 0) {
        perror("smtp_sink");
        return 1;
    }
    on_listener.data.ptr = &listener;
    on_stdin.data.ptr = &poll;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &on_listener);
    epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &on_stdin);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &listener) {
                greet(poll, listener);
            } else if (events[i].data.ptr == &poll) {
                printf("%ld\n", taken);
                return 0;
            } else {
                serve(events[i].data.ptr);
            }
        }
    }
}
