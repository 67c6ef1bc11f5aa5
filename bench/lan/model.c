/* The links' model: when a frame is at the switch, to which ports it goes, when it is at the device. */
#include "linkem.h"

#include <stdlib.h>
#include <string.h>

enum { MAC_SLOTS = 4096, MAC_PROBES = 16, MIN_FRAME = 60, HEADER = 14 };

struct heap arriving, leaving;
int frame_overhead = 24; /* preamble 8, checksum 4, gap 12 */
u64 queue_limit, grain;

static struct { u64 address; int port; } stations[MAC_SLOTS];
static u64 next_sequence, random_state = 88172645463325252ULL;

static int before(const struct event *a, const struct event *b) {
  return a->time != b->time ? a->time < b->time : a->sequence < b->sequence;
}

static void grow(struct heap *heap) {
  heap->capacity = heap->capacity ? heap->capacity * 2 : 4096;
  heap->events = realloc(heap->events, heap->capacity * sizeof *heap->events);
  if (!heap->events) die("realloc");
}

void push(struct heap *heap, u64 time, struct frame *frame, int port) {
  struct event event = {time, next_sequence++, frame, port};
  if (heap->count == heap->capacity) grow(heap);
  struct event *events = heap->events;
  size_t at = heap->count++;
  for (; at && before(&event, &events[(at - 1) / 2]); at = (at - 1) / 2) events[at] = events[(at - 1) / 2];
  events[at] = event;
}

struct event pop(struct heap *heap) {
  struct event *events = heap->events, first = events[0], last = events[--heap->count];
  size_t at = 0, child;
  while ((child = 2 * at + 1) < heap->count) {
    if (child + 1 < heap->count && before(&events[child + 1], &events[child])) child++;
    if (!before(&events[child], &last)) break;
    events[at] = events[child];
    at = child;
  }
  events[at] = last;
  return first;
}

void release(struct frame *frame) {
  if (!--frame->references) free(frame);
}

static u64 address_at(const unsigned char *bytes) {
  u64 address = 0;
  for (int i = 0; i < 6; i++) address = address << 8 | bytes[i];
  return address;
}

static int is_group(u64 address) { return address >> 40 & 1; }

/* The address's slot, or one that it may take, or -1. */
static int slot_of(u64 address) {
  unsigned hash = (unsigned)((address * 0x9E3779B97F4A7C15ULL) >> 52);
  for (int i = 0; i < MAC_PROBES; i++) {
    int slot = (hash + i) % MAC_SLOTS;
    if (!stations[slot].address || stations[slot].address == address) return slot;
  }
  return -1;
}

static void learn(u64 address, int port) {
  int slot = is_group(address) ? -1 : slot_of(address);
  if (slot < 0) return;
  stations[slot].address = address;
  stations[slot].port = port;
}

static int port_of(u64 address) {
  int slot = is_group(address) ? -1 : slot_of(address);
  return slot >= 0 && stations[slot].address == address ? stations[slot].port : -1;
}

/* Queues a frame on a link: when it is through, or 0 where it was dropped. */
static u64 through(struct link *link, uint32_t bytes, u64 time) {
  u64 start = link->free_at > time ? link->free_at : time;
  if (start - time > queue_limit) {
    link->dropped++;
    return 0;
  }
  link->frames++;
  link->bytes += bytes;
  return link->free_at = start + (u64)(((bytes < MIN_FRAME ? MIN_FRAME : bytes) + frame_overhead) * link->ns_per_byte);
}

static u64 random_below(u64 limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % limit;
}

static struct frame *frame_of(const unsigned char *data, uint32_t bytes) {
  struct frame *frame = malloc(sizeof *frame + bytes);
  if (!frame) die("malloc");
  frame->references = 1;
  frame->bytes = bytes;
  memcpy(frame->data, data, bytes);
  return frame;
}

void from_device(int index, const unsigned char *data, uint32_t bytes, u64 time) {
  struct port *port = &ports[index];
  u64 sent = bytes < HEADER ? 0 : through(&port->up, bytes, time);
  if (!sent) return;
  u64 arrival = sent + port->delay + (port->jitter ? random_below(port->jitter) : 0);
  if (arrival < port->last_arrival) arrival = port->last_arrival; /* jitter never reorders */
  port->last_arrival = arrival;
  push(&arriving, arrival, frame_of(data, bytes), index);
}

static void to_device(int index, struct frame *frame, u64 time) {
  u64 sent = through(&ports[index].down, frame->bytes, time);
  if (!sent) return;
  frame->references++;
  push(&leaving, sent + ports[index].delay, frame, index);
}

void at_switch(struct event event) {
  learn(address_at(event.frame->data + 6), event.port);
  int known = port_of(address_at(event.frame->data));
  for (int i = 0; i < port_count; i++)
    if (i != event.port && (known < 0 || known == i)) to_device(i, event.frame, event.time);
  release(event.frame);
}
