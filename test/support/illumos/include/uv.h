/*
 * libuv's header is the same everywhere; its real one needs the whole of the system's headers.
 */
#ifndef UV_H
#define	UV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct uv_loop_s uv_loop_t;

#define	UV_MEMBERS	void *data; uv_loop_t *loop; void *rest[32]

typedef struct uv_handle_s { UV_MEMBERS; } uv_handle_t;
typedef struct uv_stream_s { UV_MEMBERS; } uv_stream_t;
typedef struct uv_pipe_s { UV_MEMBERS; } uv_pipe_t;
typedef struct uv_poll_s { UV_MEMBERS; } uv_poll_t;
typedef struct uv_check_s { UV_MEMBERS; } uv_check_t;
typedef struct uv_prepare_s { UV_MEMBERS; } uv_prepare_t;
typedef struct uv_timer_s { UV_MEMBERS; } uv_timer_t;
typedef struct uv_write_s { void *data; uv_stream_t *handle; void *rest[24]; } uv_write_t;
typedef struct uv_buf_t { char *base; size_t len; } uv_buf_t;

enum { UV_READABLE = 1, UV_EAGAIN = -11, UV_EOF = -4095, UV_ENOBUFS = -132 };
typedef enum { UV_LOOP_BLOCK_SIGNAL, UV_METRICS_IDLE_TIME } uv_loop_option;

typedef void (*uv_close_cb)(uv_handle_t *);
typedef void (*uv_alloc_cb)(uv_handle_t *, size_t, uv_buf_t *);
typedef void (*uv_read_cb)(uv_stream_t *, ssize_t, const uv_buf_t *);
typedef void (*uv_write_cb)(uv_write_t *, int);
typedef void (*uv_poll_cb)(uv_poll_t *, int, int);
typedef void (*uv_check_cb)(uv_check_t *);
typedef void (*uv_prepare_cb)(uv_prepare_t *);
typedef void (*uv_timer_cb)(uv_timer_t *);

extern uv_buf_t uv_buf_init(char *, unsigned int);
extern void uv_close(uv_handle_t *, uv_close_cb);
extern void uv_unref(uv_handle_t *);
extern int uv_is_active(const uv_handle_t *);
extern int uv_pipe_init(uv_loop_t *, uv_pipe_t *, int);
extern int uv_pipe_open(uv_pipe_t *, int);
extern int uv_read_start(uv_stream_t *, uv_alloc_cb, uv_read_cb);
extern int uv_read_stop(uv_stream_t *);
extern int uv_write(uv_write_t *, uv_stream_t *, const uv_buf_t *, unsigned int, uv_write_cb);
extern int uv_try_write(uv_stream_t *, const uv_buf_t *, unsigned int);
extern size_t uv_stream_get_write_queue_size(const uv_stream_t *);
extern int uv_poll_init(uv_loop_t *, uv_poll_t *, int);
extern int uv_poll_start(uv_poll_t *, int, uv_poll_cb);
extern int uv_poll_stop(uv_poll_t *);
extern int uv_check_init(uv_loop_t *, uv_check_t *);
extern int uv_check_start(uv_check_t *, uv_check_cb);
extern int uv_check_stop(uv_check_t *);
extern int uv_prepare_init(uv_loop_t *, uv_prepare_t *);
extern int uv_prepare_start(uv_prepare_t *, uv_prepare_cb);
extern int uv_prepare_stop(uv_prepare_t *);
extern int uv_timer_init(uv_loop_t *, uv_timer_t *);
extern int uv_timer_start(uv_timer_t *, uv_timer_cb, unsigned long, unsigned long);
extern uint64_t uv_hrtime(void);
extern uint64_t uv_metrics_idle_time(uv_loop_t *);
extern int uv_loop_configure(uv_loop_t *, uv_loop_option, ...);

#endif
