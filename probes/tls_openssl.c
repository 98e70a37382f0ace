/* OpenSSL 1.1 and 3, in a library or within an executable. sources/targets.py says which program belongs to which
 * function.
 */
#include "include/tls.h"

/* int SSL_read(SSL *, void *buf, int num), SSL_write likewise */
int on_library_read(struct pt_regs *ctx)
{
	enter_library(ctx, ctx->si, 0, RECEIVED, UNSEEN_NONE);
	return 0;
}

int on_library_write(struct pt_regs *ctx)
{
	enter_library(ctx, ctx->si, 0, SENT, UNSEEN_NONE);
	return 0;
}

/* int SSL_read_ex(SSL *, void *buf, size_t num, size_t *readbytes), SSL_write_ex, SSL_read_early_data and
 * SSL_write_early_data likewise
 */
int on_library_read_ex(struct pt_regs *ctx)
{
	enter_library(ctx, ctx->si, ctx->cx, RECEIVED, UNSEEN_NONE);
	return 0;
}

int on_library_write_ex(struct pt_regs *ctx)
{
	enter_library(ctx, ctx->si, ctx->cx, SENT, UNSEEN_NONE);
	return 0;
}

/* int SSL_write_ex2(SSL *, const void *buf, size_t num, uint64_t flags, size_t *written) */
int on_library_write_ex2(struct pt_regs *ctx)
{
	enter_library(ctx, ctx->si, ctx->r8, SENT, UNSEEN_NONE);
	return 0;
}

/* ossl_ssize_t SSL_sendfile(SSL *, int fd, off_t, size_t, int) */
int on_library_sendfile(struct pt_regs *ctx)
{
	enter_library(ctx, 0, 0, SENT, UNSEEN_SENDFILE);
	return 0;
}

/* int SSL_do_handshake(SSL *); SSL_accept() and SSL_connect() come by here. */
int on_handshake(struct pt_regs *ctx)
{
	enter_library(ctx, 0, 0, EITHER_DIRECTION, UNSEEN_NONE);
	return 0;
}

int on_handshake_return(struct pt_regs *ctx)
{
	struct tls_stack *calls = leave_library(ctx);

	if (calls)
		on_handshake_over(calls->over.session, calls->over.carrier);
	return 0;
}

/* int SSL_get_early_data_status(const SSL *) */
int on_early_status(struct pt_regs *ctx)
{
	enter_library(ctx, 0, 0, SENT, UNSEEN_NONE);
	return 0;
}

/* SSL_EARLY_DATA_REJECTED is 1. Whoever sends early data has to ask, for it has to be sent again. */
int on_early_status_return(struct pt_regs *ctx)
{
	struct tls_stack *calls = leave_library(ctx);

	if (calls && (s32)ctx->ax == 1)
		on_early_data_refused(calls->over.session);
	return 0;
}

/* What a call came to: an int or a ssize_t, negative where it failed; of the _ex functions 1, and the count where they were
 * told to leave it. One program for all, because telling a call is long, and the compiler would inline it in each.
 */
int on_library_return(struct pt_regs *ctx)
{
	struct tls_stack *calls = leave_library(ctx);
	s64 result = (s32)ctx->ax;
	u64 count = 0;

	if (!calls)
		return 0;
	if (calls->over.count_at) {
		if (result == 1 && copy_from_user(&count, sizeof(count), (void *)calls->over.count_at))
			count = 0;
		result = count;
	} else if (calls->over.reason) {
		result = ctx->ax;
	}
	tell_library_call(ctx, calls, result);
	return 0;
}

int on_plain_frames(struct pt_regs *ctx)
{
	tell_plain_frames(ctx);
	return 0;
}

/* SSL *SSL_new(SSL_CTX *) */
int on_session_new(struct pt_regs *ctx)
{
	on_session_made(ctx->ax);
	return 0;
}

/* int SSL_clear(SSL *): what is left of it is a session that has not begun. SSL_new() comes by here, and so does every
 * handshake, before its first byte.
 */
int on_session_clear(struct pt_regs *ctx)
{
	on_session_cleared(ctx->di);
	return 0;
}

/* int SSL_shutdown(SSL *), int gnutls_bye(gnutls_session_t, how) */
int on_session_shutdown(struct pt_regs *ctx)
{
	on_session_shut(ctx->di);
	return 0;
}

/* int SSL_up_ref(SSL *) */
int on_session_share(struct pt_regs *ctx)
{
	on_session_shared(ctx->di);
	return 0;
}

/* void SSL_free(SSL *), void gnutls_deinit(gnutls_session_t) */
int on_session_free(struct pt_regs *ctx)
{
	on_session_freed(ctx->di);
	return 0;
}
