/* revision: the revision of the stateless era of MCP that is spoken, to both sides. */
#ifndef MARGAY_COMMON_REVISION_H
#define MARGAY_COMMON_REVISION_H

#define MCP_STATELESS "2026-07-28"

#endif
