/* linkem [options] PORT[:delay=US][:jitter=US][:up=MBIT][:down=MBIT] ...
 *   -q MS  longest wait in a link's queue       -g US    frames due within this time go out together, 10 to 50
 *   -r N   SCHED_FIFO priority, 0 for none      -c FILE  where SIGUSR1 writes the counters, as JSON
 * linkem -k INTERFACE ...: turn the interfaces' offloads off, and end.
 * It writes "ready" when it switches, and ends with the process that started it. See linkem.h for the model.
 */
#include "linkem.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_LEAD_NS = 20000, MIN_GRAIN_NS = 10000, MAX_GRAIN_NS = 50000, LAZY_FROM_NS = 50000, TIMER_SLACK_NS = 1000 };
static const u64 never = ~0ULL;

static u64 shortest_delay = ~0ULL, lead = FIRST_LEAD_NS;
static int priority = 1;
static const char *counters_path;
static unsigned counted;
static volatile sig_atomic_t want_counters, want_end;

void die(const char *what) {
  perror(what);
  exit(1);
}

static int lateness_at(double share) {
  u64 sum = 0;
  for (int i = 0; i <= LATENESS_BUCKETS; i++)
    if ((sum += lateness.buckets[i]) >= share * lateness.frames) return i;
  return LATENESS_BUCKETS;
}

static double seconds_used(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void print_link(FILE *out, const char *name, const struct link *link) {
  fprintf(out, "\"%s\":{\"frames\":%llu,\"bytes\":%llu,\"dropped\":%llu}", name, (unsigned long long)link->frames,
          (unsigned long long)link->bytes, (unsigned long long)link->dropped);
}

static void print_port(FILE *out, struct port *port) {
  count_socket_drops(port);
  fprintf(out, "{");
  print_link(out, "up", &port->up);
  fprintf(out, ",");
  print_link(out, "down", &port->down);
  fprintf(out, ",\"socketDrops\":%llu,\"sendErrors\":%llu,\"tooLong\":%llu}", (unsigned long long)port->socket_drops,
          (unsigned long long)port->send_errors, (unsigned long long)port->too_long);
}

static void print_lateness(FILE *out) {
  double frames = lateness.frames ? lateness.frames : 1;
  fprintf(out, "\"lateness\":{\"frames\":%llu,\"early\":%llu,\"meanUs\":%.1f,\"p50Us\":%d,\"p99Us\":%d,\"maxUs\":%llu}",
          (unsigned long long)lateness.frames, (unsigned long long)lateness.early, lateness.sum / frames / 1000,
          lateness_at(0.5), lateness_at(0.99), (unsigned long long)lateness.max / 1000);
  memset(&lateness, 0, sizeof lateness);
}

/* Renamed into place, so that a reader never sees half of it. The lateness is since the last time. */
static void write_counters(void) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s.new", counters_path);
  FILE *out = fopen(path, "w");
  if (!out) return;
  fprintf(out, "{\"counted\":%u,\"cpuSeconds\":%.3f,\"leadUs\":%.1f,", ++counted, seconds_used(), lead / 1e3);
  print_lateness(out);
  fprintf(out, ",\"ports\":[");
  for (int i = 0; i < port_count; i++) {
    if (i) fprintf(out, ",");
    print_port(out, &ports[i]);
  }
  fprintf(out, "]}\n");
  fclose(out);
  rename(path, counters_path);
}

static int usage(const char *what) {
  fprintf(stderr, "linkem: cannot use '%s'; see the head of linkem.c\n", what);
  return 2;
}

static int set_field(struct port *port, char *field) {
  char *value = strchr(field, '=');
  if (!value) return 0;
  *value++ = 0;
  double *place = !strcmp(field, "delay")    ? &port->delay_us
                  : !strcmp(field, "jitter") ? &port->jitter_us
                  : !strcmp(field, "up")     ? &port->up.mbit
                  : !strcmp(field, "down")   ? &port->down.mbit
                                             : NULL;
  if (place) *place = atof(value);
  return place != NULL;
}

static int add_port(char *text) {
  struct port *port = &ports[port_count++];
  port->name = strtok(text, ":");
  for (char *field; (field = strtok(NULL, ":"));)
    if (!set_field(port, field)) return 0;
  port->delay = (u64)(port->delay_us * 1000);
  port->jitter = (u64)(port->jitter_us * 1000);
  port->up.ns_per_byte = port->up.mbit > 0 ? 8000 / port->up.mbit : 0;
  port->down.ns_per_byte = port->down.mbit > 0 ? 8000 / port->down.mbit : 0;
  if (port->delay < shortest_delay) shortest_delay = port->delay;
  return 1;
}

static int turn_off(char **interfaces) {
  for (; *interfaces; interfaces++) offloads_off(*interfaces);
  return 0;
}

static void set_option(int option) {
  switch (option) {
    case 'q': queue_limit = (u64)(atof(optarg) * 1e6); break;
    case 'g': grain = (u64)(atof(optarg) * 1000); break;
    case 'r': priority = atoi(optarg); break;
    case 'c': counters_path = optarg; break;
  }
}

static void on_signal(int signal) {
  if (signal == SIGUSR1) want_counters = 1;
  else want_end = 1;
}

/* Signals come only inside ppoll. */
static void take_signals(void) {
  static const int taken[] = {SIGTERM, SIGINT, SIGUSR1};
  sigset_t blocked;
  sigemptyset(&blocked);
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    sigaddset(&blocked, taken[i]);
    signal(taken[i], on_signal);
  }
  sigprocmask(SIG_BLOCK, &blocked, NULL);
}

/* A fifth of the shortest cable saves wake-ups, and is too little to make a LAN much faster than it should be. */
static void choose_grain(void) {
  if (!grain) grain = shortest_delay / 5;
  if (grain < MIN_GRAIN_NS) grain = MIN_GRAIN_NS;
  if (grain > MAX_GRAIN_NS) grain = MAX_GRAIN_NS;
}

static void become_prompt(void) {
  struct sched_param real_time = {.sched_priority = priority};
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
  if (priority > 0 && sched_setscheduler(0, SCHED_FIFO, &real_time)) perror("linkem: without SCHED_FIFO");
  setpriority(PRIO_PROCESS, 0, -15);
}

/* The timer is set early by what a wake-up usually takes, but never so early that nothing is due yet. */
static void learn_lead(u64 asked, u64 woken) {
  u64 took = woken > asked ? woken - asked : 0;
  if (took > 4 * grain) return;
  lead += ((int64_t)took - (int64_t)lead) / 16;
  if (lead > grain) lead = grain;
}

static u64 next_wake(void) {
  u64 wake = arriving.count ? arriving.events[0].time + shortest_delay : never;
  if (leaving.count && leaving.events[0].time < wake) wake = leaving.events[0].time;
  return wake == never ? never : wake - lead;
}

static int wait_until(struct pollfd *sockets, int watched, u64 now, u64 wake) {
  static sigset_t none;
  u64 wait = wake > now ? wake - now : 0;
  struct timespec time = {wait / 1000000000, wait % 1000000000};
  int ready = ppoll(sockets, watched, wake == never ? NULL : &time, &none);
  if (ready < 0 && errno != EINTR) die("ppoll");
  if (!ready && wait) learn_lead(wake, monotonic());
  return ready;
}

static void read_ready(const struct pollfd *sockets) {
  for (int i = 0; i < port_count; i++) {
    if (sockets[i].revents & POLLIN) read_port(i);
    else if (sockets[i].revents) want_end = 1;
  }
}

/* While frames are under way it sleeps on the timer alone and reads the sockets at each wake-up: a new frame is due no
 * sooner than two cable delays after its timestamp, so that it need not wake this process. */
static void run(struct pollfd *sockets) {
  u64 lazy = shortest_delay >= LAZY_FROM_NS ? shortest_delay * 3 / 2 : 0;
  while (!want_end) {
    u64 now = monotonic(), wake = next_wake();
    int busy = lazy && wake != never;
    if (busy && wake > now + lazy) wake = now + lazy;
    int ready = wait_until(sockets, busy ? 0 : port_count, now, wake);
    if (busy && !ready) ready = poll(sockets, port_count, 0);
    if (ready > 0) read_ready(sockets);
    now = monotonic();
    while (arriving.count && arriving.events[0].time <= now) at_switch(pop(&arriving));
    send_due(now);
    if (want_counters) want_counters = 0, write_counters();
  }
}

int main(int count, char **words) {
  queue_limit = 100000000;
  if (count > 1 && !strcmp(words[1], "-k")) return turn_off(words + 2);
  for (int option; (option = getopt(count, words, "q:g:r:c:")) != -1;) set_option(option);
  for (; optind < count; optind++)
    if (port_count == MAX_PORTS || !add_port(words[optind])) return usage(words[optind]);
  if (port_count < 2 || !counters_path) return usage("fewer than two ports, or no counters file");
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  choose_grain();
  become_prompt();
  take_signals();
  struct pollfd sockets[MAX_PORTS];
  for (int i = 0; i < port_count; i++) {
    open_port(&ports[i]);
    sockets[i] = (struct pollfd){.fd = ports[i].socket, .events = POLLIN};
  }
  printf("ready\n");
  fclose(stdout);
  run(sockets);
  return 0;
}
