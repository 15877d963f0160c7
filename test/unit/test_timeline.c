/*-------------------------------------------------------------------------
 *
 * test_timeline.c
 *	  A chunk's seconds find their place in the recording.
 *
 * sources: src/worker/timeline.c
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdlib.h>

#include "tap.h"
#include "worker/timeline.h"

/* Sums of seconds are not exact; a player cannot show the difference. */
#define TOLERANCE	1e-9

#define START		false
#define END			true

/* Whether second t of the chunk lies where expected, as a start or an end. */
static bool
lies(const WireSpan *spans, int nspans, double t, bool is_end, double expected)
{
	return fabs(timeline_to_source(spans, nspans, t, is_end) - expected) <
		TOLERANCE;
}

/* Three stretches with silence before, between and behind them. */
static void
test_seams(void)
{
	static const WireSpan spans[] = {{1.5, 2}, {10, 3}, {20, 0.5}};

	ok(lies(spans, 3, 0.25, START, 1.75) && lies(spans, 3, 0.25, END, 1.75),
	   "a time in the first stretch is moved by the silence before it");
	ok(lies(spans, 3, 2.5, START, 10.5) && lies(spans, 3, 2.5, END, 10.5),
	   "a time in a later stretch is moved by all the silence before it");
	ok(lies(spans, 3, 2, START, 10) && lies(spans, 3, 5, START, 20),
	   "on a seam a start goes to the later stretch");
	ok(lies(spans, 3, 2, END, 3.5) && lies(spans, 3, 5, END, 13),
	   "on a seam an end goes to the earlier stretch");
	ok(lies(spans, 3, 0, START, 1.5) && lies(spans, 3, 0, END, 1.5),
	   "the chunk's begin is the first stretch's");
	ok(lies(spans, 3, 5.5, START, 20.5) && lies(spans, 3, 5.5, END, 20.5),
	   "the chunk's end is the last stretch's");
}

/* Whether a segment is mapped to where it is expected. */
static bool
maps(double start, double end, double expected_start, double expected_end)
{
	static const WireSpan spans[] = {{1, 5}, {26, 5}, {40, 5}};

	timeline_map(spans, 3, &start, &end);
	return fabs(start - expected_start) < TOLERANCE &&
		fabs(end - expected_end) < TOLERANCE;
}

/* Segments whose ends a server tells a little too late, or too early. */
static void
test_vague(void)
{
	ok(maps(1, 4, 2, 5) && maps(6, 9, 27, 30),
	   "a segment in one stretch is moved as a whole");
	ok(maps(3, 5.5, 4, 6), "an end just behind a seam is that of the stretch before");
	ok(maps(4.5, 8, 26, 29), "a start just before a seam is that of the stretch after");
	ok(maps(5.1, 5.4, 26.1, 26.4), "a short segment just behind a seam stays there");
	ok(maps(4.6, 4.9, 5.6, 5.9), "a short segment just before a seam stays there");
	ok(maps(2, 8, 3, 29), "a segment that goes on for long behind a seam spans it");
	ok(maps(4.8, 5.2, 5.8, 6), "one that is short on both sides is left before it");
	ok(maps(4.7, 10.3, 26, 31), "both ends of a segment may be vague");
	ok(maps(-1, 99, 1, 45), "times outside the chunk are brought to its ends");
	ok(maps(3, 2, 4, 4), "an end before its start becomes the start");
}

/* What no clock shows, but servers send. */
static void
test_outside(void)
{
	static const WireSpan spans[] = {{1.5, 2}, {10, 3}};

	ok(lies(spans, 2, -0.1, START, 1.5) && lies(spans, 2, -1e300, END, 1.5) &&
	   lies(spans, 2, -INFINITY, START, 1.5),
	   "a time before the chunk is brought to its begin");
	ok(lies(spans, 2, 5.1, START, 13) && lies(spans, 2, 1e300, END, 13) &&
	   lies(spans, 2, INFINITY, START, 13),
	   "a time behind the chunk is brought to its end");
	ok(lies(spans, 2, NAN, START, 1.5) && lies(spans, 2, NAN, END, 1.5),
	   "what is not a number is the chunk's begin");
	ok(timeline_to_source(spans, 0, 5, START) == 0 &&
	   timeline_to_source(NULL, 0, 5, END) == 0,
	   "a chunk of nothing begins with the recording");
}

/* Stretches that are empty, or touch. */
static void
test_degenerate(void)
{
	static const WireSpan empty[] = {{1, 1}, {5, 0}, {9, 1}};
	static const WireSpan touching[] = {{3, 1}, {4, 1}};

	ok(lies(empty, 3, 1, START, 9) && lies(empty, 3, 1, END, 2),
	   "an empty stretch is neither a begin nor an end");
	ok(lies(touching, 2, 1, START, 4) && lies(touching, 2, 1, END, 4),
	   "between stretches that touch there is one time");
}

/* As many stretches as a frame may carry, each one second after silence. */
static void
test_many(void)
{
	WireSpan   *spans = calloc(WIRE_MAX_SPANS, sizeof(WireSpan));
	bool		good = true;

	if (spans == NULL)
		abort();
	for (int i = 0; i < WIRE_MAX_SPANS; i++)
		spans[i] = (WireSpan) {2 * i + 1, 1};
	for (int i = 0; i < WIRE_MAX_SPANS; i += 997)
		good = good &&
			lies(spans, WIRE_MAX_SPANS, i + 0.5, START, 2 * i + 1.5) &&
			lies(spans, WIRE_MAX_SPANS, i, START, 2 * i + 1) &&
			lies(spans, WIRE_MAX_SPANS, i + 1, END, 2 * i + 2);
	ok(good, "a hundred thousand stretches are told apart");
	free(spans);
}

/* From 0 to 1; the same in every run. */
static double
fraction(unsigned *seed)
{
	return rand_r(seed) / (double) RAND_MAX;
}

/*
 * Whatever the stretches: later in the chunk is never earlier in the
 * recording, and what lies in a stretch of the chunk lies in it there.
 */
static void
test_random(void)
{
	unsigned	seed = 1;
	bool		monotone = true;
	bool		ordered = true;
	bool		inside = true;

	for (int round = 0; round < 2000; round++)
	{
		WireSpan	spans[20];
		int			nspans = 1 + rand_r(&seed) % 20;
		double		at = 0;
		double		total = 0;
		double		last[2] = {0, 0};

		for (int i = 0; i < nspans; i++)
		{
			/* A third of the gaps and a few of the stretches are nothing. */
			at += rand_r(&seed) % 3 ? fraction(&seed) * 10 : 0;
			spans[i].start = at;
			spans[i].length = rand_r(&seed) % 9 ? fraction(&seed) * 30 : 0;
			at += spans[i].length;
			total += spans[i].length;
		}
		for (double t = -1; t < total + 1; t += fraction(&seed))
		{
			double		start = timeline_to_source(spans, nspans, t, START);
			double		end = timeline_to_source(spans, nspans, t, END);
			bool		found = false;

			monotone = monotone && start >= last[START] - TOLERANCE &&
				end >= last[END] - TOLERANCE;
			ordered = ordered && end <= start + TOLERANCE;
			for (int i = 0; i < nspans; i++)
				found = found || (start >= spans[i].start - TOLERANCE &&
								  start <= spans[i].start + spans[i].length +
								  TOLERANCE);
			inside = inside && found;
			last[START] = start;
			last[END] = end;
		}
	}
	ok(monotone, "time never runs backwards");
	ok(ordered, "an end is never behind a start at the same second");
	ok(inside, "no time lies in silence that was left out");
}

/*
 * A recording of random stretches, cut at random, also in the middle of one.
 * A server tells segments that follow upon each other, the last of which goes
 * on behind the chunk's end.
 */
static void
test_cuts(void)
{
	unsigned	seed = 2;
	bool		inside = true;
	bool		ordered = true;
	bool		apart = true;

	for (int round = 0; round < 500; round++)
	{
		double		at = 0;
		double		reached = 0;

		for (int chunk = 0; chunk < 10; chunk++)
		{
			WireSpan	spans[8];
			int			nspans = 1 + rand_r(&seed) % 8;
			double		total = 0;
			double		limit;
			double		last = 0;

			for (int i = 0; i < nspans; i++)
			{
				/* Chunks that are cut within speech touch. */
				at += i > 0 || rand_r(&seed) % 2 ? fraction(&seed) * 10 : 0;
				spans[i].start = at;
				spans[i].length = 0.1 + fraction(&seed) * 20;
				at += spans[i].length;
				total += spans[i].length;
			}
			limit = spans[nspans - 1].start + spans[nspans - 1].length;
			for (double t = 0; t < total;)
			{
				double		start = t;
				double		end = t + 0.05 + fraction(&seed) * 30;

				t = end;
				timeline_map(spans, nspans, &start, &end);
				inside = inside && start >= spans[0].start - TOLERANCE &&
					end <= limit + TOLERANCE && end >= start;
				ordered = ordered && start >= last - TOLERANCE;
				apart = apart && start >= reached - TOLERANCE;
				last = start;
			}
			reached = limit;
		}
	}
	ok(inside, "no segment reaches beyond the chunk that it is of");
	ok(ordered, "segments of a chunk stay in order");
	ok(apart, "none lies in what an earlier chunk accounts for");
}

int
main(void)
{
	test_seams();
	test_vague();
	test_outside();
	test_degenerate();
	test_many();
	test_random();
	test_cuts();
	return done();
}
