/* The switch's ends of the veth pairs: packet sockets, read and written in batches. */
#include "linkem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BATCHES = 64, SOCKET_BUFFER = 16 << 20 };
static const u64 oldest_timestamp = 200000000;

struct port ports[MAX_PORTS];
int port_count;
struct lateness lateness;

static void option(int socket, int level, int name, int value, int required) {
  if (setsockopt(socket, level, name, &value, sizeof value) && required) die("setsockopt");
}

void open_port(struct port *port) {
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  /* Protocol 0 until it is bound, so that it never holds another interface's frames. */
  if ((port->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) < 0) die("socket");
  if (!(address.sll_ifindex = if_nametoindex(port->name))) die(port->name);
  option(port->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, 1);
  option(port->socket, SOL_PACKET, PACKET_QDISC_BYPASS, 1, 0);
  option(port->socket, SOL_SOCKET, SO_TIMESTAMPNS, 1, 1);
  option(port->socket, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER, 0);
  option(port->socket, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER, 0);
  if (bind(port->socket, (struct sockaddr *)&address, sizeof address)) die("bind");
}

void count_socket_drops(struct port *port) {
  struct tpacket_stats seen;
  socklen_t bytes = sizeof seen;
  if (!getsockopt(port->socket, SOL_PACKET, PACKET_STATISTICS, &seen, &bytes)) port->socket_drops += seen.tp_drops;
}

static u64 nanoseconds(struct timespec time) { return time.tv_sec * 1000000000ULL + time.tv_nsec; }

u64 monotonic(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return nanoseconds(time);
}

/* How long ago the kernel took the frame in; 0 where its clock was set meanwhile. */
static u64 age_of(struct msghdr *message, u64 real) {
  for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SO_TIMESTAMPNS) continue;
    struct timespec taken;
    memcpy(&taken, CMSG_DATA(control), sizeof taken);
    u64 then = nanoseconds(taken);
    return real > then && real - then < oldest_timestamp ? real - then : 0;
  }
  return 0;
}

static int read_batch(int index) {
  static unsigned char frames[BATCH][MAX_FRAME], controls[BATCH][64];
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  for (int i = 0; i < BATCH; i++) {
    parts[i] = (struct iovec){frames[i], MAX_FRAME};
    messages[i].msg_hdr = (struct msghdr){
      .msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = controls[i], .msg_controllen = sizeof controls[i]};
  }
  int count = recvmmsg(ports[index].socket, messages, BATCH, MSG_DONTWAIT, NULL);
  struct timespec real;
  clock_gettime(CLOCK_REALTIME, &real);
  u64 now = monotonic();
  for (int i = 0; i < count; i++) {
    if (messages[i].msg_hdr.msg_flags & MSG_TRUNC) ports[index].too_long++;
    else from_device(index, frames[i], messages[i].msg_len, now - age_of(&messages[i].msg_hdr, nanoseconds(real)));
  }
  return count;
}

void read_port(int index) {
  for (int i = 0; i < MAX_BATCHES && read_batch(index) == BATCH; i++) {}
}

static void note_lateness(u64 due, u64 now) {
  u64 late = now > due ? now - due : 0;
  lateness.frames++;
  lateness.sum += (int64_t)(now - due);
  if (!late) lateness.early++;
  if (late > lateness.max) lateness.max = late;
  lateness.buckets[late / 1000 < LATENESS_BUCKETS ? late / 1000 : LATENESS_BUCKETS]++;
}

/* A frame that the kernel refuses is lost, as on a wire. */
static void send_batch(struct port *port, struct mmsghdr *messages) {
  for (int sent = 0; sent < port->batched;) {
    int count = sendmmsg(port->socket, messages + sent, port->batched - sent, MSG_DONTWAIT);
    if (count <= 0) port->send_errors++;
    sent += count > 0 ? count : 1;
  }
}

static void flush(struct port *port) {
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  u64 now = monotonic();
  for (int i = 0; i < port->batched; i++) {
    note_lateness(port->batch[i].time, now);
    parts[i] = (struct iovec){port->batch[i].frame->data, port->batch[i].frame->bytes};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  send_batch(port, messages);
  for (int i = 0; i < port->batched; i++) release(port->batch[i].frame);
  port->batched = 0;
}

/* What is due within the grain goes out together: fewer wake-ups and system calls. */
void send_due(u64 now) {
  while (leaving.count && leaving.events[0].time <= now + grain) {
    struct event event = pop(&leaving);
    struct port *port = &ports[event.port];
    port->batch[port->batched++] = event;
    if (port->batched == BATCH) flush(port);
  }
  for (int i = 0; i < port_count; i++)
    if (ports[i].batched) flush(&ports[i]);
}

void offloads_off(const char *interface) {
  static const uint32_t commands[] = {ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_SSG, ETHTOOL_STXCSUM};
  int any = socket(AF_INET, SOCK_DGRAM, 0);
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    struct ethtool_value value = {.cmd = commands[i], .data = 0};
    struct ifreq request = {.ifr_data = (char *)&value};
    strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    if (ioctl(any, SIOCETHTOOL, &request)) die(interface);
  }
  close(any);
}
