/* What `check` measures with. Each mode writes one line of JSON.
 *   probe serve PORT                               answers pingpong and stream, from any device
 *   probe ping ADDRESS COUNT GAP_MS                ICMP echo: the far kernel answers
 *   probe pingpong ADDRESS PORT BYTES COUNT        as many bytes there and back, over one TCP connection
 *   probe stream ADDRESS PORT SECONDS              TCP throughput, measured where it arrives
 */
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 20, CHUNK = 65536, ICMP_PAYLOAD = 56, PING_TIMEOUT_MS = 2000, IP_HEADER = 20 };
struct received { uint64_t bytes, ns; };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static struct sockaddr_in address_of(const char *text, int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (!inet_pton(AF_INET, text, &address.sin_addr)) die(text);
  return address;
}

static void undelayed(int socket) {
  int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int connect_to(const char *text, int port, uint32_t pong_bytes) {
  struct sockaddr_in address = address_of(text, port);
  int connection = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection, (struct sockaddr *)&address, sizeof address)) die("connect");
  undelayed(connection);
  if (write(connection, &pong_bytes, sizeof pong_bytes) != sizeof pong_bytes) die("write");
  return connection;
}

static int read_all(int connection, void *into, size_t bytes) {
  return recv(connection, into, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static int write_all(int connection, const char *from, size_t bytes) {
  while (bytes) {
    ssize_t sent = write(connection, from, bytes);
    if (sent <= 0) return 0;
    from += sent, bytes -= sent;
  }
  return 1;
}

static void receive_stream(int connection) {
  static char chunk[CHUNK];
  struct received got = {0};
  uint64_t start = 0;
  for (ssize_t bytes; (bytes = read(connection, chunk, CHUNK)) > 0; got.bytes += bytes)
    if (!start) start = now();
  got.ns = now() - start;
  write_all(connection, (char *)&got, sizeof got);
}

/* The client's first four bytes: the size of a ping, or 0 for a stream. */
static void answer(int connection) {
  uint32_t bytes;
  undelayed(connection);
  if (!read_all(connection, &bytes, sizeof bytes)) return;
  if (!bytes) return receive_stream(connection);
  char *ball = malloc(bytes);
  while (read_all(connection, ball, bytes) && write_all(connection, ball, bytes)) {}
}

static int serve(char **words) {
  struct sockaddr_in address = address_of("0.0.0.0", atoi(words[0]));
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) die("listen");
  signal(SIGCHLD, SIG_IGN);
  printf("{\"ready\":true}\n");
  fflush(stdout);
  for (int connection; (connection = accept(listener, NULL, NULL)) >= 0; close(connection)) {
    if (fork()) continue;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    answer(connection);
    exit(0);
  }
  return 1;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int report(double *us, int count, int sent) {
  double sum = 0;
  if (!count) return printf("{\"sent\":%d,\"received\":0}\n", sent), 1;
  qsort(us, count, sizeof *us, by_size);
  for (int i = 0; i < count; i++) sum += us[i];
  printf("{\"sent\":%d,\"received\":%d,\"minUs\":%.1f,\"medianUs\":%.1f,", sent, count, us[0], us[count / 2]);
  printf("\"meanUs\":%.1f,\"p99Us\":%.1f,\"maxUs\":%.1f}\n", sum / count, us[count * 99 / 100], us[count - 1]);
  return 0;
}

static uint16_t checksum(const void *data, size_t bytes) {
  const uint16_t *words = data;
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes / 2; i++) sum += words[i];
  sum = (sum >> 16) + (sum & 0xffff);
  return ~(sum + (sum >> 16));
}

/* Microseconds to the answer with this number, or -1. */
static double echo(int raw, const struct sockaddr_in *to, uint16_t number) {
  struct { struct icmphdr head; char payload[ICMP_PAYLOAD]; } request = {.head.type = ICMP_ECHO};
  unsigned char packet[512];
  request.head.un.echo.id = htons((uint16_t)getpid()), request.head.un.echo.sequence = htons(number);
  request.head.checksum = checksum(&request, sizeof request);
  uint64_t start = now();
  if (sendto(raw, &request, sizeof request, 0, (struct sockaddr *)to, sizeof *to) < 0) return -1;
  for (struct pollfd wait = {raw, POLLIN, 0}; poll(&wait, 1, PING_TIMEOUT_MS) > 0;) {
    ssize_t bytes = recv(raw, packet, sizeof packet, 0);
    struct icmphdr *reply = (struct icmphdr *)(packet + IP_HEADER);
    if (bytes >= (ssize_t)(IP_HEADER + sizeof *reply) && reply->type == ICMP_ECHOREPLY &&
        reply->un.echo.id == request.head.un.echo.id && reply->un.echo.sequence == request.head.un.echo.sequence)
      return (now() - start) / 1e3;
  }
  return -1;
}

static int ping(char **words) {
  struct sockaddr_in to = address_of(words[0], 0);
  int sent = atoi(words[1]), received = 0, raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  double *us = calloc(sent, sizeof *us);
  if (raw < 0) die("socket");
  echo(raw, &to, 0);
  for (int i = 1; i <= sent; i++) {
    double took = echo(raw, &to, i);
    if (took >= 0) us[received++] = took;
    usleep(atof(words[2]) * 1000);
  }
  return report(us, received, sent);
}

static int pingpong(char **words) {
  uint32_t bytes = atoi(words[2]), count = atoi(words[3]);
  int connection = connect_to(words[0], atoi(words[1]), bytes);
  char *ball = calloc(1, bytes);
  double *us = calloc(count, sizeof *us);
  for (uint32_t i = 0; i < WARM_UP + count; i++) {
    uint64_t start = now();
    if (!write_all(connection, ball, bytes) || !read_all(connection, ball, bytes)) die("pingpong");
    if (i >= WARM_UP) us[i - WARM_UP] = (now() - start) / 1e3;
  }
  return report(us, count, count);
}

static int stream(char **words) {
  static char chunk[CHUNK];
  struct received got;
  int connection = connect_to(words[0], atoi(words[1]), 0);
  uint64_t end = now() + (uint64_t)(atof(words[2]) * 1e9);
  while (now() < end)
    if (!write_all(connection, chunk, CHUNK)) die("write");
  shutdown(connection, SHUT_WR);
  if (!read_all(connection, &got, sizeof got)) die("read");
  printf("{\"bytes\":%llu,\"mbit\":%.2f}\n", (unsigned long long)got.bytes, got.bytes * 8e3 / got.ns);
  return 0;
}

int main(int count, char **words) {
  static const struct { const char *name; int words; int (*run)(char **); } modes[] = {
    {"serve", 1, serve}, {"ping", 3, ping}, {"pingpong", 4, pingpong}, {"stream", 3, stream}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (count == modes[i].words + 2 && !strcmp(words[1], modes[i].name)) return modes[i].run(words + 2);
  fprintf(stderr, "probe: see the head of probe.c\n");
  return 2;
}
