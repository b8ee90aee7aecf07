/* tools: the table of tools, and the two methods on it. */
#ifndef MARGAY_MASTER_DEMO_TOOLS_H
#define MARGAY_MASTER_DEMO_TOOLS_H

#include "master/demo/protocol.h"

void tools_list(const struct request *r);
void tools_call(const struct request *r);

#endif
