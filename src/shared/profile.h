/*-------------------------------------------------------------------------
 *
 * profile.h
 *	  What is known of well-known Whisper servers: defaults for options.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TRANSCRIBE_PROFILE_H
#define TRANSCRIBE_PROFILE_H

/* The values of the option "profile". */
#define PROFILES \
	"generic, openai, azure, groq, speaches, whisper.cpp, vllm, localai"

/* What an option of a server is by default, where its profile says so. */
typedef struct ProfileDefault
{
	const char *profile;
	const char *model;			/* a pattern of names, or NULL: any model */
	const char *option;
	const char *value;			/* as one would write it */
} ProfileDefault;

extern const ProfileDefault *profile_default(const char *profile,
											 const char *model, int *next);

#endif							/* TRANSCRIBE_PROFILE_H */
