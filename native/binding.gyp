# Off illumos the platform's symbols come from the emulation library; its path is fixed, as src/platform/ffi.ts
# opens it by name and must get the very instance that the addon is linked with.
{
  'target_defaults': {
    'cflags': ['-Wall', '-Wextra', '-std=gnu11'],
    'defines': ['NAPI_VERSION=8'],
  },
  'targets': [
    {
      'target_name': 'mdatad',
      'cflags': ['-fvisibility=hidden'],
      'sources': [
        'addon.c',
        'calls_addon.c',
        'file_lock.c',
        'file_stat.c',
        'file_replace.c',
        'files_addon.c',
        'json_scan.c',
        'json_string.c',
        'loop_delay.c',
        'loop_delay_addon.c',
        'metadata_addon.c',
        'metadata_file.c',
        'metadata_names.c',
        'metadata_outcome.c',
        'metadata_scan.c',
        'napi_call.c',
        'napi_promise.c',
        'peer.c',
        'pool_job.c',
        'socket_connection.c',
        'socket_listener.c',
        'socket_slot.c',
        'sockets.c',
        'sockets_addon.c',
        'subscription.c',
        'zone_events.c',
        'zone_events_addon.c',
        'zone_facts.c',
        'zone_facts_addon.c',
        'zone_queue.c',
      ],
      'conditions': [
        ['OS=="solaris"', {
          # accept, bind, listen and socket are not libc's; errno is one for each thread with _REENTRANT only.
          'libraries': ['-lzonecfg', '-lsocket', '-lnsl'],
          'defines': ['_REENTRANT'],
        }, {
          'dependencies': ['zoneemul'],
          'ldflags': ["-Wl,-rpath,'$$ORIGIN'"],
        }],
      ],
    },
    {
      'target_name': 'zone_root',
      'type': 'executable',
      'sources': ['node_channel.c', 'zone_root.c', 'zone_walk.c'],
      'conditions': [
        ['OS=="solaris"', {
          'libraries': ['-lsocket', '-lnsl'],
        }, {
          'dependencies': ['zoneemul'],
          'ldflags': ["-Wl,-rpath,'$$ORIGIN'"],
        }],
      ],
    },
  ],
  'conditions': [
    ['OS!="solaris"', {
      'targets': [
        {
          'target_name': 'zoneemul',
          'type': 'shared_library',
          'product_dir': '<(PRODUCT_DIR)',
          'product_prefix': 'lib',
          'cflags': ['-fvisibility=hidden'],
          'libraries': ['-lpthread'],
          'sources': [
            'emul/channel.c',
            'emul/kernel_zones.c',
            'emul/lofs.c',
            'emul/mnttab.c',
            'emul/node.c',
            'emul/store.c',
            'emul/subscriber.c',
            'emul/table.c',
            'emul/ucred.c',
            'emul/unmount_all.c',
            'emul/zindex.c',
            'emul/zindex_change.c',
            'emul/zone_xml.c',
            'emul/zonecfg.c',
          ],
        },
      ],
    }],
    ['OS=="linux"', {
      'targets': [
        { 'target_name': 'zexec', 'type': 'executable', 'sources': ['emul/zexec.c'] },
        { 'target_name': 'zport', 'type': 'executable', 'sources': ['emul/zport.c', 'node_channel.c'] },
      ],
    }],
  ],
}
