/*-------------------------------------------------------------------------
 *
 * extent.c
 *	  Whether all of a file is there, as far as the file itself tells.
 *
 * Runs in transcribe_media, inside the sandbox, on the open descriptor.  A
 * recorder that was killed, a full disk or a broken upload leave files of
 * which FFmpeg reads what is there, and reports nothing.  Many containers
 * say in their first bytes how large they are; those made for streaming are
 * made of units whose ends are known.  What is written to a pipe announces
 * nothing, and is believed to be whole.
 *
 * The bytes are hostile: every number is checked before it is used.
 *
 *-------------------------------------------------------------------------
 */
#include "media/extent.h"

#include <string.h>
#include <unistd.h>

#include <libavutil/intreadwrite.h>

/* RIFF sizes from here on are what programs write that cannot know it. */
#define RIFF_UNKNOWN	0x7fff0000

/* As much of the beginning as is looked at. */
#define HEAD_SIZE		4096

/* Chunks of a CAF file that may come before its data. */
#define MAX_CHUNKS		100

/* The largest page of Ogg: a header with 255 lengths, and those. */
#define OGG_HEADER		27
#define OGG_PAGE		(OGG_HEADER + 255 + 255 * 255)

/* Packets of MPEG: as broadcast, and with a time before each. */
#define TS_SYNC			0x47
#define TS_PACKET		188
#define M2TS_PACKET		192

typedef struct Head
{
	int			fd;
	int64_t		size;			/* of the file */
	uint8_t		data[HEAD_SIZE];
	size_t		len;
} Head;

/* A sum that may be anything; -1 if it is no size of a file. */
static int64_t
sum(int64_t start, uint64_t length)
{
	return length > (uint64_t) (INT64_MAX - start) ? -1 :
		start + (int64_t) length;
}

/* RIFF (WAV, AVI) and AIFF: a name, and the size of what follows. */
static int64_t
iff_size(const Head *head)
{
	uint32_t	size;

	if (memcmp(head->data, "FORM", 4) == 0)
		return sum(8, AV_RB32(head->data + 4));
	if (memcmp(head->data, "RIFF", 4) != 0)
		return -1;
	size = AV_RL32(head->data + 4);
	return size == 0 || size >= RIFF_UNKNOWN ? -1 : sum(8, size);
}

/* Sony's WAV for large files: a GUID, and the size of all. */
static int64_t
w64_size(const Head *head)
{
	static const uint8_t guid[] = {
		'r', 'i', 'f', 'f', 0x2e, 0x91, 0xcf, 0x11,
		0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0x00, 0x00
	};

	return memcmp(head->data, guid, sizeof(guid)) != 0 ? -1 :
		sum(0, AV_RL64(head->data + sizeof(guid)));
}

/* Apple's CAF: chunks up to the one of the data, which may say -1. */
static int64_t
caf_size(const Head *head)
{
	int64_t		at = 8;

	if (memcmp(head->data, "caff", 4) != 0)
		return -1;
	for (int i = 0; i < MAX_CHUNKS; i++)
	{
		uint8_t		chunk[12];

		if (pread(head->fd, chunk, sizeof(chunk), at) != (ssize_t) sizeof(chunk))
			return -1;
		at = sum(at + (int64_t) sizeof(chunk), AV_RB64(chunk + 4));
		if (memcmp(chunk, "data", 4) == 0 || at < 0 || at > head->size)
			return at;
	}
	return -1;
}

/*
 * A number of EBML: its first bit set tells how many bytes it has.  Returns
 * how many that are, 0 if they are not there.
 */
static size_t
ebml_number(const Head *head, size_t at, uint64_t *value, bool *unknown)
{
	size_t		bytes = 1;
	uint64_t	most;

	if (at >= head->len || head->data[at] == 0)
		return 0;
	while ((head->data[at] << bytes & 0x100) == 0)
		bytes++;
	if (at + bytes > head->len)
		return 0;
	most = (UINT64_C(1) << 7 * bytes) - 1;
	*value = 0;
	for (size_t i = 0; i < bytes; i++)
		*value = *value << 8 | head->data[at + i];
	*value &= most;
	*unknown = *value == most;
	return bytes;
}

/*
 * Matroska and WebM: a header, perhaps something void, and the segment with
 * its size.  Live recordings leave that unknown.
 */
static int64_t
matroska_size(const Head *head)
{
	static const uint8_t header[] = {0x1a, 0x45, 0xdf, 0xa3};
	static const uint8_t segment[] = {0x18, 0x53, 0x80, 0x67};
	size_t		at = 0;

	if (memcmp(head->data, header, sizeof(header)) != 0)
		return -1;
	while (at + 4 <= head->len)
	{
		bool		found = memcmp(head->data + at, segment, 4) == 0;
		size_t		id = found || at == 0 ? 4 : 1;
		uint64_t	size;
		bool		unknown;
		size_t		bytes = ebml_number(head, at + id, &size, &unknown);

		if (bytes == 0 || unknown)
			return -1;
		at += id + bytes;
		if (found)
			return sum((int64_t) at, size);
		if (size > head->len)
			return -1;
		at += size;
	}
	return -1;
}

/* ASF (WMA): the size stands in the header, except of broadcasts. */
static int64_t
asf_size(const Head *head)
{
	static const uint8_t header[] = {
		0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11
	};
	static const uint8_t properties[] = {
		0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11,
		0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65
	};

	if (memcmp(head->data, header, sizeof(header)) != 0)
		return -1;
	for (size_t at = 30; at + 92 <= head->len; at++)
	{
		if (memcmp(head->data + at, properties, sizeof(properties)) != 0)
			continue;
		return AV_RL32(head->data + at + 88) & 1 ? -1 :
			sum(0, AV_RL64(head->data + at + 40));
	}
	return -1;
}

/*
 * Ogg: whether the last page is longer than the file.  What stands behind a
 * whole page is a tag that somebody appended.
 */
static bool
ogg_is_torn(const Head *head)
{
	static const uint8_t mark[] = {'O', 'g', 'g', 'S', 0};
	uint8_t		tail[OGG_PAGE];
	int64_t		start = head->size > OGG_PAGE ? head->size - OGG_PAGE : 0;
	ssize_t		len = pread(head->fd, tail, sizeof(tail), start);

	if (memcmp(head->data, mark, sizeof(mark)) != 0 || start + len != head->size)
		return false;
	for (ssize_t at = len - (ssize_t) sizeof(mark); at >= 0; at--)
	{
		ssize_t		end = at + OGG_HEADER;

		if (memcmp(tail + at, mark, sizeof(mark)) != 0)
			continue;
		if (end > len || end + tail[end - 1] > len)
			return true;
		for (int i = tail[end - 1]; i > 0; i--)
			end += tail[at + OGG_HEADER + i - 1];
		return end + tail[at + OGG_HEADER - 1] > len;
	}
	return false;
}

/* MPEG transport streams are made of packets of one size. */
static bool
ts_is_torn(const Head *head)
{
	for (int packet = TS_PACKET; packet <= M2TS_PACKET;
		 packet += M2TS_PACKET - TS_PACKET)
	{
		int			first = packet - TS_PACKET;
		bool		is = true;

		for (int i = 0; i < 5; i++)
			is = is && head->data[first + i * packet] == TS_SYNC;
		if (is)
			return head->size % packet != 0;
	}
	return false;
}

/* What a file tells of its own extent. */
Extent
extent_of(int fd, int64_t size)
{
	static int64_t (*const sizes[]) (const Head *head) = {
		iff_size, w64_size, caf_size, matroska_size, asf_size
	};
	Extent		extent = {.announced = -1};
	Head		head = {.fd = fd, .size = size};
	ssize_t		n = pread(fd, head.data, sizeof(head.data), 0);

	head.len = n > 0 ? (size_t) n : 0;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) &&
		 extent.announced < 0; i++)
		extent.announced = sizes[i] (&head);
	extent.torn = ogg_is_torn(&head) || ts_is_torn(&head);
	return extent;
}
