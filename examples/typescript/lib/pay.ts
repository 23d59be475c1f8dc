declare const isPaid: (order: number) => Promise<boolean>;
declare const charge: (order: number) => Promise<void>;
declare const record: (order: number) => Promise<void>;

export const processPay = async (job: { input: { order: number } }) => {
  const { order } = job.input;
  if (await isPaid(order)) return { success: true };
  await charge(order);
  await record(order);
  return { success: true };
};
