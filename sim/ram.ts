/** Where devices find a guest's memory: above 4 GiB, so that both halves of addresses count. */
export const ramIova = 0x1_0000_0000;
