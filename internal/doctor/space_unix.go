//go:build unix

package doctor

import "syscall"

func space(path string) []Finding {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return []Finding{Bad("disk", "see to the disk", "%s: %v", path, err)}
	}
	unit := uint64(st.Bsize)
	return room(path, uint64(st.Bavail)*unit, st.Blocks*unit, uint64(st.Ffree), uint64(st.Files)) //nolint:unconvert // likewise
}
