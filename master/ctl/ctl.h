/*
 * ctl: the commands that talk to a running Margay, and `check`, which talks to nobody.
 *
 * A running Margay is found by `-c FILE` (its runtime_dir) or `--runtime-dir DIR`. Each command is
 * one request on the control socket (docs/control-socket.md). argv[0] is the command's word; the
 * result is an exit code.
 */
#ifndef MARGAY_MASTER_CTL_CTL_H
#define MARGAY_MASTER_CTL_CTL_H

int check_main(int argc, char **argv);
int status_main(int argc, char **argv);
int reload_main(int argc, char **argv);
int stop_main(int argc, char **argv);
int upstreams_main(int argc, char **argv);
int restart_main(int argc, char **argv);
int replace_main(int argc, char **argv);
int upgrade_main(int argc, char **argv);
int rollback_main(int argc, char **argv);

#endif
