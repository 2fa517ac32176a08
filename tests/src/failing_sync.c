// Loaded before the C library: fsync and fdatasync fail with EIO while the file that CRASHFERRY_TEST_SYNC_FAILS names
// is there, as they do on a disk that is dying.
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
  const char *flag = getenv("CRASHFERRY_TEST_SYNC_FAILS");
  return flag != NULL && access(flag, F_OK) == 0;
}

static int sync_or_fail(long call, int file) {
  if (fails()) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(call, file);
}

int fsync(int file) { return sync_or_fail(SYS_fsync, file); }

int fdatasync(int file) { return sync_or_fail(SYS_fdatasync, file); }
