/* Owns a vhost device for a moment: the driver asks for a kernel thread that bears the owner's pid (linux/vhost.h). */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VHOST_SET_OWNER _IO(0xAF, 0x01)

int main(void)
{
	int fd = open("/dev/vhost-vsock", O_RDWR);

	if (fd < 0 || ioctl(fd, VHOST_SET_OWNER) < 0) {
		perror("vhost");
		return 1;
	}
	printf("owner %d\n", getpid());
	fflush(stdout);
	usleep(300000);
	close(fd);
	return 0;
}
