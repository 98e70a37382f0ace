/* GnuTLS, where it differs from OpenSSL: int gnutls_init(gnutls_session_t *, flags) leaves the session where it was told
 * to. The rest of its functions have the programs of tls_openssl.c.
 */
#include "include/tls.h"

BPF_TABLE("lru_hash", u64, u64, tls_births, 1024);	/* by thread: where the session will stand */

int on_session_init(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), at = ctx->di;

	tls_births.update(&id, &at);
	return 0;
}

int on_session_init_return(struct pt_regs *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), session = 0;
	u64 *at = tls_births.lookup(&id);

	if (!at)
		return 0;
	if (!(s32)ctx->ax && !copy_from_user(&session, sizeof(session), (void *)*at))
		on_session_made(session);
	tls_births.delete(&id);
	return 0;
}
