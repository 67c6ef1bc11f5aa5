/* linkem: a user-space Ethernet switch with emulated links, for kernels without netem.
 *
 * Each port is the switch's end of a veth pair whose other end is a device's network card:
 *   device --(up queue, up rate, cable delay)--> switch --(down queue, down rate, cable delay)--> device
 * Store and forward: a frame pays both cables' delays, and each link sends one frame at a time behind a queue that
 * drops what would wait too long. Every time is computed from the kernel's receive timestamp, so that a late wake-up
 * of this process delays only what was due meanwhile and never adds up. Offloads must be off on both ends of a pair.
 */
#ifndef LINKEM_H
#define LINKEM_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_PORTS = 65, BATCH = 32, MAX_FRAME = 65536, LATENESS_BUCKETS = 2000 };
typedef uint64_t u64;

struct frame { int references; uint32_t bytes; unsigned char data[]; };
struct event { u64 time, sequence; struct frame *frame; int port; };
struct heap { struct event *events; size_t count, capacity; };

struct link { double mbit, ns_per_byte; u64 free_at, frames, bytes, dropped; };

struct port {
  const char *name;
  int socket, batched;
  double delay_us, jitter_us;
  u64 delay, jitter, last_arrival;
  struct link up, down;
  struct event batch[BATCH];
  u64 socket_drops, send_errors, too_long;
};

struct lateness { u64 buckets[LATENESS_BUCKETS + 1], frames, early, max; int64_t sum; };

extern struct port ports[MAX_PORTS];
extern int port_count, frame_overhead;
extern u64 queue_limit, grain;
extern struct heap arriving, leaving;
extern struct lateness lateness;

u64 monotonic(void);
void die(const char *what);

/* model.c */
void from_device(int port, const unsigned char *data, uint32_t bytes, u64 time);
void at_switch(struct event event);
void push(struct heap *heap, u64 time, struct frame *frame, int port);
struct event pop(struct heap *heap);
void release(struct frame *frame);

/* ports.c */
void open_port(struct port *port);
void read_port(int port);
void count_socket_drops(struct port *port);
void send_due(u64 now);
void offloads_off(const char *interface);

#endif
