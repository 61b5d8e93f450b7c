/*
 * The protocol's worked examples, byte by byte, about the VM of vm-fixture.ts: numbers copied from the
 * specification (protocol sections 9, 10 and 13), nothing computed by the code under test.
 *
 * Strings are bytes: each character stands for one (`Buffer.from(text, 'latin1')`). Where the platform's
 * agent has a defect, the row holds the answer that the specification recommends.
 *
 * The rows stand in an order in which they can be run one after the other against one VM: those that
 * change it come last, and no later row depends on an earlier one.
 */
import type { Change } from '../../src/metadata/vm-data';

/** A request and what must come back. */
export interface Exchange {
  readonly name: string;
  readonly in: string;
  /** Null where the answer is silence. */
  readonly out: string | null;
  /** What must be stored; nothing where it is not given. */
  readonly change?: Change;
}

const READS: readonly Exchange[] = [
  {
    name: 'row 1: bare newline: the active reset',
    in: '\n',
    out: 'invalid command\n',
  },
  {
    name: 'row 2: white space only',
    in: '   \t \n',
    out: 'invalid command\n',
  },
  {
    name: 'row 4: negotiation',
    in: 'NEGOTIATE V2\n',
    out: 'V2_OK\n',
  },
  {
    name: 'row 5: trailing white space is cut first',
    in: 'NEGOTIATE V2 \r\n',
    out: 'V2_OK\n',
  },
  {
    name: 'row 6: argument is case-sensitive',
    in: 'NEGOTIATE v2\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 8: two spaces: argument is SP V2',
    in: 'NEGOTIATE  V2\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 10: no key',
    in: 'GET\n',
    out: 'invalid command\n',
  },
  {
    name: 'row 11: leading white space',
    in: ' GET motd\n',
    out: 'invalid command\n',
  },
  {
    name: 'row 13: unknown command',
    in: 'FOO bar\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 14: absent key',
    in: 'GET nosuch\n',
    out: 'NOTFOUND\n',
  },
  {
    name: 'row 15: value ends in LF, so an empty line precedes the dot',
    in: 'GET user-script\n',
    out: 'SUCCESS\n#!/bin/sh\necho hi\n\n.\n',
  },
  {
    name: 'row 16: dot-stuffing',
    in: 'GET motd\n',
    out: 'SUCCESS\n..hid\n...two\nplain\n.\n',
  },
  {
    name: 'row 17: empty value',
    in: 'GET empty\n',
    out: 'SUCCESS\n\n.\n',
  },
  {
    name: 'row 19: UTF-8 both ways',
    in: 'GET caf\xc3\xa9\n',
    out: 'SUCCESS\nna\xc3\xafve \xe2\x98\x83\n.\n',
  },
  {
    name: 'row 20: string property',
    in: 'GET sdc:uuid\n',
    out: 'SUCCESS\n5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11\n.\n',
  },
  {
    name: 'row 21: number',
    in: 'GET sdc:quota\n',
    out: 'SUCCESS\n10\n.\n',
  },
  {
    name: 'row 24: JSON key',
    in: 'GET sdc:resolvers\n',
    out: 'SUCCESS\n["8.8.8.8","8.8.4.4"]\n.\n',
  },
  {
    name: 'row 25: flattened array',
    in: 'GET sdc:resolvers.1\n',
    out: 'SUCCESS\n8.8.4.4\n.\n',
  },
  {
    name: 'row 26: flattened array of objects',
    in: 'GET sdc:nics.0.ip\n',
    out: 'SUCCESS\n10.2.1.20\n.\n',
  },
  {
    name: 'row 30: value is an object',
    in: 'GET sdc:tags\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 31: computed; 10.5.0.0/16 left out (nic 1 is dhcp)',
    in: 'GET sdc:routes\n',
    out: 'SUCCESS\n[{"linklocal":false,"dst":"10.2.2.0/24","gateway":"10.2.1.1"},{"linklocal":true,"dst":"10.3.0.1","gateway":"192.168.7.4"},{"linklocal":true,"dst":"10.4.0.0/16","gateway":"10.2.1.20"}]\n.\n',
  },
  {
    name: 'row 32: *_pw comes from internal_metadata',
    in: 'GET root_pw\n',
    out: 'SUCCESS\ns3cret\n.\n',
  },
  {
    name: 'row 34: list; customer keys, then internal ones',
    in: 'KEYS\n',
    out: 'SUCCESS\nmotd\nuser-script\nempty\ncaf\xc3\xa9\ntwo words\nroot_pw\ndocker:cmd\ndocker:restartcount\n.\n',
  },
  {
    name: 'row 35: no PUT in V1',
    in: 'PUT Zm9v YmFy\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 36: no DELETE in V1',
    in: 'DELETE motd\n',
    out: 'FAILURE\n',
  },
  {
    name: 'row 37: V2 with no frame: silence',
    in: 'V2\n',
    out: null,
  },
  {
    name: 'row 39: no dot-stuffing in V2',
    in: 'V2 21 31a3c984 1a2b3c4d GET bW90ZA==\n',
    out: 'V2 41 10598ecf 1a2b3c4d SUCCESS LmhpZAouLnR3bwpwbGFpbg==\n',
  },
  {
    name: 'row 40: NOTFOUND has no payload',
    in: 'V2 21 3bd4d8bb 1a2b3c4e GET bm9zdWNo\n',
    out: 'V2 17 5940edce 1a2b3c4e NOTFOUND\n',
  },
  {
    name: 'row 42: UTF-8 inside base64',
    in: 'V2 21 b468b707 00000001 GET Y2Fmw6k=\n',
    out: 'V2 33 5b51fd4c 00000001 SUCCESS bmHDr3ZlIOKYgw==\n',
  },
  {
    name: 'row 43: number',
    in: 'V2 25 746bf139 2b2b2b2b GET c2RjOnRtcGZz\n',
    out: 'V2 21 1da83878 2b2b2b2b SUCCESS MjU2\n',
  },
  {
    name: 'row 45: object value: FAILURE without payload',
    in: 'V2 25 ece7103d 2b2b2b2d GET c2RjOnRhZ3M=\n',
    out: 'V2 16 b34b7597 2b2b2b2d FAILURE\n',
  },
  {
    name: 'row 46: GET without payload',
    in: 'V2 12 62a2f7ab 2b2b2b2e GET\n',
    out: 'V2 45 be4113c9 2b2b2b2e FAILURE SW52YWxpZCBHRVQgUmVxdWVzdA==\n',
  },
  {
    name: 'row 48: namespaced key: internal_metadata',
    in: 'V2 29 0e8313ac 3c000001 GET ZG9ja2VyOmNtZA==\n',
    out: 'V2 25 45d71dd7 3c000001 SUCCESS WyJzaCJd\n',
  },
  {
    name: 'row 50: stored string, returned as it is',
    in: 'V2 29 901429eb 3c000003 GET c2RjOnZvbHVtZXM=\n',
    out: 'V2 21 5c64d3c9 3c000003 SUCCESS W10=\n',
  },
  {
    name: 'row 51: from internal_metadata',
    in: 'V2 41 748a48f5 3c000004 GET c2RjOm9wZXJhdG9yLXNjcmlwdA==\n',
    out: 'V2 33 0eed278b 3c000004 SUCCESS IyEvYmluL3NoCjoK\n',
  },
  {
    name: 'row 52: request CRC with leading zeros; KEYS has no payload',
    in: 'V2 13 00e2f850 526afd10 KEYS\n',
    out: 'V2 121 8ed588b4 526afd10 SUCCESS bW90ZAp1c2VyLXNjcmlwdAplbXB0eQpjYWbDqQp0d28gd29yZHMKcm9vdF9wdwpkb2NrZXI6Y21kCmRvY2tlcjpyZXN0YXJ0Y291bnQ=\n',
  },
  {
    name: 'row 57: PUT sdc:',
    in: 'V2 37 5e8ccccd 4d000003 PUT YzJSak9uVjFhV1E9IGVBPT0=\n',
    out: 'V2 65 984c2547 4d000003 FAILURE Q2Fubm90IHVwZGF0ZSB0aGUgInNkYyIgTmFtZXNwYWNlLg==\n',
  },
  {
    name: 'row 59: PUT with one argument',
    in: 'V2 21 24a4bbeb 4d000005 PUT Wm05dg==\n',
    out: 'V2 45 5bfc2635 4d000005 FAILURE SW52YWxpZCBQVVQgUmVxdWVzdA==\n',
  },
  {
    name: 'row 65: DELETE sdc:',
    in: 'V2 28 322a3281 5e000004 DELETE c2RjOnV1aWQ=\n',
    out: 'V2 65 b8b7728c 5e000004 FAILURE Q2Fubm90IHVwZGF0ZSB0aGUgInNkYyIgTmFtZXNwYWNlLg==\n',
  },
  {
    name: 'row 67: lower-case command inside a frame',
    in: 'V2 21 1661183b 6f000001 get bW90ZA==\n',
    out: 'V2 45 d81fca87 6f000001 FAILURE VW5rbm93biBjb21tYW5kIGdldA==\n',
  },
  {
    name: 'row 70: CR before LF is cut',
    in: 'V2 21 433221a9 6f000004 GET bW90ZA==\r\n',
    out: 'V2 41 9bdad54c 6f000004 SUCCESS LmhpZAouLnR3bwpwbGFpbg==\n',
  },
  {
    name: 'row 72: wrong CRC: silence',
    in: 'V2 21 433221a8 6f000004 GET bW90ZA==\n',
    out: null,
  },
  {
    name: 'row 74: upper-case CRC: silence',
    in: 'V2 21 433221A9 6f000004 GET bW90ZA==\n',
    out: null,
  },
  {
    name: 'row 77: cut frame: silence',
    in: 'V2 21 433221a9 6f000\n',
    out: null,
  },
  {
    name: 'D2: internal metadata is not readable through sdc:',
    in: 'GET sdc:internal_metadata.hidden\n',
    out: 'NOTFOUND\n',
  },
  {
    name: 'D4: a name of the object prototype is absent in V1',
    in: 'GET constructor\n',
    out: 'NOTFOUND\n',
  },
  {
    name: 'D4: __proto__ is absent in V2',
    in: 'V2 25 7275276b a1000002 GET X19wcm90b19f\n',
    out: 'V2 17 a8d36d03 a1000002 NOTFOUND\n',
  },
  {
    name: 'D4: a PUT of __proto__ is refused',
    in: 'V2 37 2161351d a1000003 PUT WDE5d2NtOTBiMTlmIGVBPT0=\n',
    out: 'V2 45 99b7e135 a1000003 FAILURE SW52YWxpZCBQVVQgUmVxdWVzdA==\n',
  },
  {
    name: 'a PUT of a value that is not UTF-8 is refused in words of its own',
    in: 'V2 25 0ff2f20d a1000004 PUT WW1sdSAvLzQ9\n',
    out: 'V2 45 7a67dbbd a1000004 FAILURE VmFsdWUgaXMgbm90IFVURi04Lg==\n',
  },
  {
    name: 'a PUT of an empty value is refused',
    in: 'V2 25 7a2770df a1000001 PUT Ym05MFpRPT0g\n',
    out: 'V2 57 d9eb4425 a1000001 FAILURE RW1wdHkgdmFsdWVzIGFyZSBub3Qgc3RvcmVkLg==\n',
  },
  {
    name: 'D14: a GET of nothing is answered',
    in: 'V2 13 10c6eec6 a1000005 GET \n',
    out: 'V2 45 a0b1b0dc a1000005 FAILURE SW52YWxpZCBHRVQgUmVxdWVzdA==\n',
  },
  {
    name: 'D14: a DELETE of nothing is answered',
    in: 'V2 16 51416ad9 a1000006 DELETE \n',
    out: 'V2 49 0d33c143 a1000006 FAILURE SW52YWxpZCBERUxFVEUgUmVxdWVzdA==\n',
  },
  {
    name: 'D18: words between V2 and the length break a frame',
    in: 'V2 junk 21 7ea770a4 a1000007 GET ZW1wdHk=\n',
    out: null,
  },
  {
    name: "D20: a PUT of the operator's script is refused",
    in: 'V2 49 4347638b a1000008 PUT YjNCbGNtRjBiM0l0YzJOeWFYQjAgZUE9PQ==\n',
    out: 'V2 73 c6ac68e1 a1000008 FAILURE Q2Fubm90IHVwZGF0ZSB0aGUgIm9wZXJhdG9yLXNjcmlwdCIgS2V5Lg==\n',
  },
];

const WRITES: readonly Exchange[] = [
  {
    name: 'row 55: PUT',
    in: 'V2 37 4ce780eb 4d000001 PUT WTI5c2IzVnkgWW14MVpRPT0=\n',
    out: 'V2 21 fd8aeeb0 4d000001 SUCCESS T0s=\n',
    change: { kind: 'set', map: 'customer', key: 'colour', value: 'blue' },
  },
  {
    name: 'row 56: PUT *_pw',
    in: 'V2 37 b50f871c 4d000002 PUT Y205dmRGOXdkdz09IGJqTjM=\n',
    out: 'V2 21 81ebcb6b 4d000002 SUCCESS T0s=\n',
    change: { kind: 'set', map: 'internal', key: 'root_pw', value: 'n3w' },
  },
  {
    name: 'row 62: DELETE',
    in: 'V2 24 978655b6 5e000001 DELETE bW90ZA==\n',
    out: 'V2 21 07375668 5e000001 SUCCESS T0s=\n',
    change: { kind: 'remove', map: 'customer', key: 'motd' },
  },
  {
    name: 'row 64: DELETE *_pw',
    in: 'V2 28 63fc583d 5e000003 DELETE cm9vdF9wdw==\n',
    out: 'V2 21 e65992c5 5e000003 SUCCESS T0s=\n',
    change: { kind: 'remove', map: 'internal', key: 'root_pw' },
  },
];

export const GOLDEN: readonly Exchange[] = [...READS, ...WRITES];

/** Bytes and their CRC, as text. */
export const CRC_VECTORS: readonly (readonly [bytes: string, crc: string])[] = [
  ['', '00000000'],
  ['123456789', 'cbf43926'],
  ['dc4fae17 SUCCESS W10=', '265ae1d8'],
];
