/* content: the resource, its template, the prompt, and the completion of the prompt's argument. */
#ifndef MARGAY_MASTER_DEMO_CONTENT_H
#define MARGAY_MASTER_DEMO_CONTENT_H

#include "master/demo/protocol.h"

void resources_list(const struct request *r);
void resources_templates_list(const struct request *r);
void resources_read(const struct request *r);
void resources_subscribe(const struct request *r);
void resources_unsubscribe(const struct request *r);
void prompts_list(const struct request *r);
void prompts_get(const struct request *r);
void completion_complete(const struct request *r);

#endif
