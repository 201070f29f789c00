import ij.IJ;
import ij.ImagePlus;
import ij.process.ImageProcessor;
import java.io.DataOutputStream;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;

/** Opens images as File > Open does; tells each one's sizes and frame interval, and writes its values beside it. */
public class Open {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            ImagePlus image = IJ.openImage(path);
            if (image == null) {
                System.out.println("not opened");
                continue;
            }
            int[] size = image.getDimensions();
            System.out.printf("%d %d %d %d %d %s%n", size[4], size[3], size[2], size[1], size[0],
                image.getCalibration().frameInterval);
            try (DataOutputStream out = new DataOutputStream(
                    new BufferedOutputStream(new FileOutputStream(path + ".values")))) {
                for (int page = 1; page <= image.getStackSize(); page++) {
                    ImageProcessor pixels = image.getStack().getProcessor(page);
                    pixels.setCalibrationTable(image.getCalibration().getCTable());
                    for (int y = 0; y < size[1]; y++)
                        for (int x = 0; x < size[0]; x++)
                            out.writeFloat(pixels.getPixelValue(x, y));
                }
            }
        }
    }
}
