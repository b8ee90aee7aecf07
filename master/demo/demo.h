/* demo: `margay demo-server`, a small real MCP server to put behind the gateway and to test with.
 */
#ifndef MARGAY_MASTER_DEMO_DEMO_H
#define MARGAY_MASTER_DEMO_DEMO_H

/* Run the command; argv[0] is "demo-server". Returns the exit code: 0, 1 when it could not serve, 2
 * for wrong usage. */
int demo_main(int argc, char **argv);

#endif
