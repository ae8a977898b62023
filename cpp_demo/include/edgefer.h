#ifndef EDGEFER_H
#define EDGEFER_H

/* The library for programs that are not C++: one engine, faces in, probabilities out.
 *
 * Functions that can fail return 0 when they did not, and -1 when they did; edgefer_error() and edgefer_hint() then say
 * what was wrong, until the same thread's next call that can fail. One engine is one thread's at a time.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edgefer_engine edgefer_engine;

/* How three bytes of a pixel are ordered, or that there is one. */
typedef enum { EDGEFER_GREY = 0, EDGEFER_RGB = 1, EDGEFER_BGR = 2 } edgefer_format;

/* A box in pixels: what a detector says of a face. Parts outside the picture repeat its edge. */
typedef struct {
  double x, y, width, height;
} edgefer_box;

/* Open the engine at `path` with the manifest beside it and check both, golden vectors included. */
int edgefer_open(const char* path, int threads, edgefer_engine** engine);

/* Close it; NULL is allowed. */
void edgefer_close(edgefer_engine* engine);

/* The number of labels, and each one, UTF-8; it lives as long as the engine. NULL outside the range. */
size_t edgefer_labels(const edgefer_engine* engine);
const char* edgefer_label(const edgefer_engine* engine, size_t index);

/* Probabilities of `count` boxes of a picture: count × labels floats, each row sums to 1.
 *
 * pixels: height rows of `stride` bytes, in `format`.
 */
int edgefer_classify(edgefer_engine* engine, const uint8_t* pixels, int width, int height, ptrdiff_t stride,
                     edgefer_format format, const edgefer_box* boxes, size_t count, float* probabilities);

/* Why this thread's last call failed, and what to do about it; "" where there is nothing to say. */
const char* edgefer_error(void);
const char* edgefer_hint(void);

#ifdef __cplusplus
}
#endif

#endif
